;; A reactor whose _initialize depends on nothing: the image has what it wrote, to
;; memory that it had to grow for that.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $pages (mut i32) (i32.const 0))
  (data (i32.const 0) "\00\00\20\00\01\00\00\00")
  (func (export "_initialize")
    (drop (memory.grow (i32.const 40)))
    (i32.store8 (i32.const 0x200000) (i32.add (i32.const 48) (i32.load8_u (i32.const 0x200001))))
    (global.set $pages (memory.size)))
  (func (export "handler")
    (if (i32.ne (global.get $pages) (i32.const 41)) (then (unreachable)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store8 (i32.const 0x200000) (i32.const 57))
    (i32.store8 (i32.const 0x200001) (i32.const 5))
    (drop (memory.grow (i32.const 40)))
    (global.set $pages (memory.size))))
