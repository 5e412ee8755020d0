// What a function can ask the platform for.
//
//     import { counter, result, Value } from "./cloudburst";
//
//     export function handler(): void {
//       const visits = counter("visits");
//       visits.add(1);
//       result(Value.json(visits.total().toString()));
//     }
//
// Where the platform refuses something, the guest ends, and its call with what the
// platform said. A namespace is where keys live, "" is the function's own.

import { fail } from "./wasi";

// @ts-ignore: decorator
@external("cloudburst", "request")
declare function hostRequest(request: usize, length: i32): i32;

// @ts-ignore: decorator
@external("cloudburst", "response")
declare function hostResponse(response: usize): void;

/** A Value is bytes with a MIME type; the type "" is JSON. */
export class Value {
  constructor(
    public type: string,
    public body: ArrayBuffer,
  ) {}

  static json(text: string): Value {
    return new Value("", String.UTF8.encode(text));
  }

  static text(text: string): Value {
    return new Value("text/plain; charset=utf-8", String.UTF8.encode(text));
  }

  get isJSON(): bool {
    return this.type == "" || this.type == "application/json";
  }

  /** isString says whether it is a JSON string. */
  get isString(): bool {
    return this.isJSON && String.UTF8.decode(this.body).trimStart().startsWith('"');
  }

  /** toString returns what is in a JSON string, or the body as it is. */
  toString(): string {
    const text = String.UTF8.decode(this.body);
    const trimmed = text.trim();
    return this.isJSON && trimmed.startsWith('"') ? unquote(trimmed) : text;
  }
}

/** argument returns the call's; its body is empty if there is none. */
export function argument(): Value {
  return ask("a", [])!.value();
}

/** info returns {"run":..,"function":..,"node":..,"attempt":..,"namespace":..,"id":..}. */
export function info(): string {
  return ask("i", [])!.text();
}

export function log(text: string): void {
  ask("l", [utf8(text)]);
}

/** result says what the call returns. Else that is what is printed. */
export function result(v: Value): void {
  ask("t", [utf8(v.type), v.body]);
}

/** get returns the value of a key, null if there is none. */
export function get(key: string, ns: string = ""): Value | null {
  const r = ask("g", [utf8(ns), utf8(key)]);
  return r ? r.value() : null;
}

export function put(key: string, v: Value, ns: string = ""): void {
  ask("p", [utf8(ns), utf8(key), utf8(v.type), v.body]);
}

export function remove(key: string, ns: string = ""): void {
  ask("d", [utf8(ns), utf8(key)]);
}

/** versions returns all values that no other has replaced, the one of get first. */
export function versions(key: string, ns: string = ""): Value[] {
  const all: Value[] = [];
  const r = ask("v", [utf8(ns), utf8(key)])!;
  while (r.more) all.push(r.value());
  return all;
}

/**
 * update merges JSON into a key: a number for the kinds counter and gcounter, an array
 * of elements for set, {"add":[..],"remove":[..]} for orset, a number or a string for
 * max and min.
 */
export function update(key: string, kind: string, json: string, ns: string = ""): void {
  ask("u", [utf8(ns), utf8(key), utf8(kind), utf8(json)]);
}

/** read returns what a key of that kind holds, as JSON; null if nothing. */
export function read(key: string, kind: string, ns: string = ""): string | null {
  const r = ask("r", [utf8(ns), utf8(key), utf8(kind)]);
  return r ? r.text() : null;
}

export class Counter {
  constructor(
    private key: string,
    private ns: string,
  ) {}

  add(delta: i64): void {
    update(this.key, "counter", delta.toString(), this.ns);
  }

  total(): i64 {
    const json = read(this.key, "counter", this.ns);
    return json ? I64.parseInt(json) : 0;
  }
}

export function counter(key: string, ns: string = ""): Counter {
  return new Counter(key, ns);
}

/** start calls a function or DAG, and returns the run that wait waits for. */
export function start(name: string, v: Value): string {
  return ask("s", [utf8(name), utf8(v.type), v.body])!.text();
}

/** wait returns what a run returned, once it has. */
export function wait(run: string): Value {
  return ask("w", [utf8(run)])!.value();
}

/** call calls a function or DAG, and waits for its result. */
export function call(name: string, v: Value): Value {
  return wait(start(name, v));
}

/** A Message is a value and the id of the execution that sent it. */
export class Message {
  constructor(
    public from: string,
    public value: Value,
  ) {}
}

/** id returns that of this execution: others send messages to it. */
export function id(): string {
  const text = info();
  const at = text.indexOf('"id":"') + 6;
  return text.substring(at, text.indexOf('"', at));
}

/** send sends a message to an execution: it is stored, and comes once that listens. */
export function send(to: string, v: Value): void {
  ask("m", [utf8(to), utf8(v.type), v.body]);
}

/** recv returns the next message; null if none has come within so many milliseconds. */
export function recv(wait: i32): Message | null {
  const r = ask("c", [utf8(wait.toString())]);
  if (!r) return null;
  const from = r.text();
  return new Message(from, r.value());
}

/** quote returns text as JSON. */
export function quote(text: string): string {
  const out = new Uint16Array(6 * text.length + 2);
  let n = 0;
  out[n++] = 0x22;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x20) {
      const escape = "\\u00" + c.toString(16).padStart(2, "0");
      for (let j = 0; j < escape.length; j++) out[n++] = <u16>escape.charCodeAt(j);
      continue;
    }
    if (c == 0x22 || c == 0x5c) out[n++] = 0x5c;
    out[n++] = <u16>c;
  }
  out[n++] = 0x22;
  return String.UTF16.decodeUnsafe(out.dataStart, n << 1);
}

/** unquote returns what is in a JSON string, which the platform has checked. */
function unquote(json: string): string {
  const escapes = "bfnrt";
  const meant: StaticArray<u16> = [8, 12, 10, 13, 9];
  const out = new Uint16Array(json.length);
  let n = 0;
  for (let i = 1; i < json.length - 1; i++) {
    let c = <u16>json.charCodeAt(i);
    if (c == 0x5c) {
      const escape = json.charAt(++i);
      const which = escapes.indexOf(escape);
      if (escape == "u") {
        c = <u16>parseInt(json.substring(i + 1, i + 5), 16);
        i += 4;
      } else {
        c = which < 0 ? <u16>escape.charCodeAt(0) : meant[which];
      }
    }
    out[n++] = c;
  }
  return String.UTF16.decodeUnsafe(out.dataStart, n << 1);
}

// A request is a byte and fields; a response a byte of status, and fields. A field is
// its length and its bytes. Numbers of WebAssembly are little-endian, as these are.

class Response {
  private next: i32 = 1;

  constructor(private bytes: ArrayBuffer) {}

  get status(): u8 {
    return load<u8>(changetype<usize>(this.bytes));
  }

  get more(): bool {
    return this.next < this.bytes.byteLength;
  }

  field(): ArrayBuffer {
    const length = load<i32>(changetype<usize>(this.bytes) + this.next);
    const from = this.next + 4;
    this.next = from + length;
    return this.bytes.slice(from, this.next);
  }

  text(): string {
    return String.UTF8.decode(this.field());
  }

  value(): Value {
    const type = this.text();
    return new Value(type, this.field());
  }
}

function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

/** ask returns null if there is nothing of that name. */
function ask(op: string, fields: ArrayBuffer[]): Response | null {
  let size = 1;
  for (let i = 0; i < fields.length; i++) size += 4 + fields[i].byteLength;
  const request = new ArrayBuffer(size);
  let to = changetype<usize>(request);
  store<u8>(to++, op.charCodeAt(0));
  for (let i = 0; i < fields.length; i++) {
    const length = fields[i].byteLength;
    store<i32>(to, length);
    memory.copy(to + 4, changetype<usize>(fields[i]), length);
    to += 4 + length;
  }
  const bytes = new ArrayBuffer(hostRequest(changetype<usize>(request), size));
  hostResponse(changetype<usize>(bytes));
  const response = new Response(bytes);
  if (response.status == 0x65) {
    // e: the kind of error, and the message
    response.field();
    fail(response.text());
  }
  return response.status == 0x6f ? response : null; // o
}
