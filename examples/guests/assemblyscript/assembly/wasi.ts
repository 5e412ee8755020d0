// Standard input, output and error, and what becomes of a failed assertion: all that
// a function needs if it asks the platform for nothing.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, vectors: usize, count: i32, done: usize): i32;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, vectors: usize, count: i32, done: usize): i32;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: i32): void;

const vector = memory.data(8); // where the bytes are, and how many
const count = memory.data(4);

/** input returns all of standard input: the call's argument. */
export function input(): ArrayBuffer {
  let buffer = new ArrayBuffer(4096);
  let length = 0;
  while (true) {
    if (length == buffer.byteLength) {
      const larger = new ArrayBuffer(length * 2);
      memory.copy(changetype<usize>(larger), changetype<usize>(buffer), length);
      buffer = larger;
    }
    store<usize>(vector, changetype<usize>(buffer) + length);
    store<usize>(vector, buffer.byteLength - length, 4);
    if (fd_read(0, vector, 1, count) != 0) fail("standard input can't be read");
    const n = load<i32>(count);
    if (n == 0) return buffer.slice(0, length);
    length += n;
  }
}

/** inputText returns standard input as text. */
export function inputText(): string {
  return String.UTF8.decode(input());
}

/** output writes bytes to standard output: the call's result, unless it is returned. */
export function output(bytes: ArrayBuffer): void {
  write(1, bytes);
}

/** print writes a line to standard output. */
export function print(line: string): void {
  write(1, String.UTF8.encode(line + "\n"));
}

/** report writes a line to standard error: the call's log. */
export function report(line: string): void {
  write(2, String.UTF8.encode(line + "\n"));
}

/** fail ends the guest, and its call with the reason. */
export function fail(reason: string): void {
  report(reason);
  proc_exit(1);
}

/** abort is called by what the compiler adds, such as checks of bounds, and by throw. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message ? message : "aborted";
  const where = file ? file : "?";
  fail(where + ":" + line.toString() + ":" + column.toString() + ": " + what);
}

function write(fd: i32, bytes: ArrayBuffer): void {
  let at = changetype<usize>(bytes);
  let left = bytes.byteLength;
  while (left > 0) {
    store<usize>(vector, at);
    store<usize>(vector, left, 4);
    if (fd_write(fd, vector, 1, count) != 0) proc_exit(1);
    const n = load<i32>(count);
    at += n;
    left -= n;
  }
}
