;; An import that nobody provides.
(module (import "env" "puts" (func (param i32) (result i32))) (memory 1) (func (export "_start")))
