;; A reactor that reads its input when it is initialized, which is only then there.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\10\00\00\00")
  (func (export "_initialize") (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4))))
  (func (export "handler") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
