// Squares a number. It needs nothing of the platform: the argument is what it reads,
// the result what it prints.
import { fail, inputText, print } from "./wasi";

export function handler(): void {
  const n = parseFloat(inputText());
  if (isNaN(n)) fail("the argument is to be a number");
  const square = n * n;
  print(square == Math.trunc(square) && Math.abs(square) < 1e15 ? (<i64>square).toString() : square.toString());
}
