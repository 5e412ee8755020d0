;; A reactor that asks for random numbers when it is initialized, and says by
;; cloudburst_prepare that those may be the same in every call. The result is '0',
;; and a random byte as two letters.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\00\20\00\03\00\00\00")
  (func (export "_initialize")
    (drop (memory.grow (i32.const 40)))
    (drop (call $random (i32.const 0x200002) (i32.const 1))))
  (func (export "cloudburst_prepare")
    (i32.store8 (i32.const 0x200000) (i32.add (i32.const 48) (i32.load8_u (i32.const 0x200003))))
    (i32.store8 (i32.const 0x200001) (i32.add (i32.const 65) (i32.and (i32.load8_u (i32.const 0x200002)) (i32.const 15))))
    (i32.store8 (i32.const 0x200002) (i32.add (i32.const 65) (i32.shr_u (i32.load8_u (i32.const 0x200002)) (i32.const 4)))))
  (func (export "handler")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store8 (i32.const 0x200000) (i32.const 57))
    (i32.store8 (i32.const 0x200003) (i32.const 5))))
