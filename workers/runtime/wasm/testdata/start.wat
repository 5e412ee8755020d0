;; A start function without an end.
(module (func $forever (loop $again (br $again))) (start $forever) (func (export "handler")))
