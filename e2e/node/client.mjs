// A client in another language that knows docs/wire.md and nothing else. Every check
// prints a line; the first that fails ends the program with an error.
//
//   node client.mjs nats://127.0.0.1:4222 square.wasm
//
// square.wasm is a WebAssembly program that squares a number.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect, createInbox, headers } from "@nats-io/transport-node";

const [, , url, wasm] = process.argv;
const nc = await connect({ servers: url });
const js = jetstream(nc);
const jsm = await jetstreamManager(nc);
const kvm = new Kvm(nc);
const payload = nc.info.max_payload;
const waiting = { timeout: 60_000 };

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const text = (size) => Buffer.from(JSON.stringify("abcdefgh".repeat(size / 8 + 1).slice(0, size - 2)));

function withHeaders(fields) {
  const h = headers();
  for (const [name, value] of Object.entries(fields)) h.set(name, value);
  return h;
}

/** Waits until look returns something. */
async function until(what, look) {
  for (const end = Date.now() + 60_000; Date.now() < end;) {
    const found = await look();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`not within a minute: ${what}`);
}

/** Decodes the block format of Snappy. */
function unsnappy(packed) {
  let at = 0;
  let size = 0;
  for (let shift = 0; ; shift += 7) {
    const b = packed[at++];
    size += (b & 0x7f) * 2 ** shift;
    if (b < 0x80) break;
  }
  const out = Buffer.alloc(size);
  let end = 0;
  while (at < packed.length) {
    const tag = packed[at++];
    let length = tag >> 2;
    if ((tag & 3) === 0) { // a literal
      if (length >= 60) {
        const bytes = length - 59;
        length = packed.readUIntLE(at, bytes);
        at += bytes;
      }
      length++;
      packed.copy(out, end, at, at + length);
      at += length;
      end += length;
      continue;
    }
    let offset;
    if ((tag & 3) === 1) {
      length = 4 + (length & 7);
      offset = ((tag >> 5) << 8) | packed[at++];
    } else {
      const bytes = (tag & 3) === 2 ? 2 : 4;
      length++;
      offset = packed.readUIntLE(at, bytes);
      at += bytes;
    }
    for (let i = 0; i < length; i++, end++) out[end] = out[end - offset];
  }
  assert.equal(end, size);
  return out;
}

/** Puts a body together, if it came as chunks. */
async function whole(message, chunkOf) {
  if (!message.headers?.get("Cb-Chunks")) return Buffer.from(message.data);
  const manifest = JSON.parse(Buffer.from(message.data).toString());
  const parts = [];
  for (const chunk of manifest.chunks) {
    const stored = await chunkOf(chunk);
    let raw = Buffer.from(stored.data);
    if (stored.header.get("Content-Encoding") === "snappy") raw = unsnappy(raw);
    assert.equal(raw.length, chunk.size);
    assert.equal(sha256(raw), chunk.sha256);
    parts.push(raw);
  }
  const body = Buffer.concat(parts);
  assert.equal(body.length, manifest.size);
  return body;
}

const blob = (chunk) => jsm.direct.getMessage("CB_BLOBS", { last_by_subj: `cb.blob.${chunk.sha256}` });

/** Stores a body as chunks and returns the manifest. */
async function chunked(body) {
  const size = Math.min(512 * 1024, payload - 4096);
  const chunks = [];
  for (let at = 0; at < body.length; at += size) {
    const raw = body.subarray(at, at + size);
    chunks.push({ sha256: sha256(raw), size: raw.length });
    await js.publish(`cb.blob.${sha256(raw)}`, raw);
  }
  return JSON.stringify({ size: body.length, chunks });
}

const checks = {
  async "calls and waits"() {
    const answer = await nc.request("cb.fn.square", "5", waiting);
    assert.equal(answer.string(), "25");
    assert.equal(answer.headers.get("Cb-Status"), "ok");
  },

  async "calls and goes on"() {
    await js.publish("cb.call.square", "6", { msgID: "node-1" });
    const results = await kvm.open("cb_results");
    const result = await until("a result", () => results.get("node-1"));
    assert.equal(result.string(), "36");
  },

  async "has the result sent to its inbox"() {
    const inbox = createInbox();
    const sub = nc.subscribe(inbox, { max: 1 });
    await js.publish("cb.call.square", "7", { headers: withHeaders({ "Cb-Reply": inbox }) });
    for await (const answer of sub) assert.equal(answer.string(), "49");
  },

  async "hears that there is no such function"() {
    const answer = await nc.request("cb.fn.squaer", "5", waiting);
    assert.equal(answer.headers.get("Nats-Service-Error-Code"), "404");
    const failure = JSON.parse(answer.string());
    assert.match(failure.error, /did you mean square/);
    assert.equal(failure.name, "squaer");
    await assert.rejects(nc.request("cb.call.squaer", "5", waiting), /no responders/i);
    await assert.rejects(js.publish("cb.call.squaer", "5", { retries: 0 }), /no responders|503|stream/i);
  },

  async "hears of its function's failure"() {
    const answer = await nc.request("cb.fn.square", '"five"', waiting);
    assert.equal(answer.headers.get("Cb-Status"), "failed");
    assert.equal(answer.headers.get("Cb-Error"), "5");
    assert.equal(answer.headers.get("Nats-Service-Error-Code"), "400");
  },

  async "passes values by reference"() {
    const state = await kvm.open("state");
    await state.put("node", "[1,2]");
    const answer = await nc.request("cb.fn.sum", '[{"$ref":"node"},4]', waiting);
    assert.equal(answer.string(), "7");
  },

  async "gets a large result whole"() {
    const body = text(900_000);
    const answer = await nc.request("cb.fn.echo", body, { ...waiting, headers: withHeaders({ "Nats-Msg-Id": "node-large" }) });
    assert.equal(answer.headers.get("Cb-Chunks"), "");
    assert.ok(body.equals(answer.data));
    const entry = await until("the stored result", () => jsm.direct.getMessage("KV_cb_results", { last_by_subj: "$KV.cb_results.node-large" }));
    assert.equal(entry.header.get("Cb-Chunks"), "1");
    assert.ok(body.equals(await whole({ headers: entry.header, data: entry.data }, blob)));
  },

  async "sends as much as a message holds"() {
    const body = text(payload);
    const answer = await nc.request("cb.fn.echo", body, waiting);
    assert.ok(body.equals(await whole(answer, blob)));
  },

  async "sends more than a message holds"() {
    const body = text(3 * payload + 1);
    const manifest = await chunked(body);
    const answer = await nc.request("cb.fn.echo", manifest, { ...waiting, headers: withHeaders({ "Cb-Chunks": "1" }) });
    assert.equal(answer.headers.get("Cb-Chunks"), "1");
    assert.ok(body.equals(await whole(answer, blob)));
  },

  async "reads a large value of state"() {
    // "many" is what `cloudburst kv put` has put: the base, or a writer's part of it.
    const parts = [];
    for await (const name of await jsm.streams.info("KV_state", { subjects_filter: "$KV.state.many.>" }).then((i) => Object.keys(i.state.subjects ?? {}))) parts.push(name);
    const at = parts[0] ?? "$KV.state.many";
    const entry = await jsm.direct.getMessage("KV_state", { last_by_subj: at });
    assert.equal(entry.header.get("Cb-Kind"), "lww");
    assert.equal(entry.header.get("Cb-Chunks"), "1");
    const body = await whole({ headers: entry.header, data: entry.data }, (chunk) => jsm.direct.getMessage("CB_CHUNKS_state", { seq: chunk.seq }));
    assert.equal(JSON.parse(body.toString()).length, 700_000);
  },

  async "deploys a function"() {
    const code = await readFile(wasm);
    const image = sha256(code);
    const store = await new Objm(nc).open("cb_images");
    await store.putBlob({ name: image }, code);
    const entry = { name: "node-square", runtime: "wasm", image, pool: "deployed", version: 1, check: "5", want: "25" };
    const workers = await kvm.open("cb_workers");
    const ask = async (what, about) => {
      const answers = [];
      for await (const key of await workers.keys()) {
        const worker = await workers.get(key);
        const info = worker?.json();
        if (!info?.deploys || info.pool !== "deployed") continue;
        answers.push((await nc.request(`cb.worker.${info.id}.${what}`, JSON.stringify(about), { timeout: 120_000 })).string());
      }
      assert.ok(answers.length > 0);
      return answers;
    };
    for (const answer of await ask("prepare", { ...entry, want: "26" })) assert.match(JSON.parse(answer).error, /wanted was 26/);
    for (const answer of await ask("prepare", entry)) assert.equal(answer, "");
    await (await kvm.open("cb_functions")).put("node-square", JSON.stringify(entry));
    nc.publish("cb.event.registry.node");
    for (const answer of await ask("adopt", entry)) assert.equal(answer, "");
    const result = await until("the function takes calls", async () => {
      const answer = await nc.request("cb.fn.node-square", "9", waiting);
      return answer.headers.get("Cb-Status") === "ok" && answer.string();
    });
    assert.equal(result, "81");
  },

  async "makes a DAG"() {
    await (await kvm.open("cb_dags")).put("node-twice", JSON.stringify({
      nodes: [{ name: "first", function: "square" }, { name: "second", function: "square" }], edges: [{ from: "first", to: "second" }],
    }));
    nc.publish("cb.event.registry.node");
    const result = await until("the DAG takes calls", async () => {
      const answer = await nc.request("cb.fn.node-twice", "3", waiting);
      return answer.headers.get("Cb-Status") === "ok" && answer.string();
    });
    assert.equal(result, "81");
  },

  async "reads a dead letter and calls it again"() {
    const large = text(300_000);
    for (const [run, body] of [["node-dead", Buffer.from('"five"')], ["node-dead-large", large]]) {
      await js.publish("cb.call.square", body, { msgID: run, headers: withHeaders({ "Cb-Level": "causal" }) });
      const find = async (of) => {
        const last = await jsm.direct.getMessage("CB_DEAD", { last_by_subj: "cb.dead.square" });
        return last?.header.get("Cb-Run") === of && last;
      };
      const letter = await until("a dead letter", () => find(run));
      assert.equal(letter.header.get("Cb-Level"), "causal");
      assert.equal(letter.header.get("Cb-Error"), "5");
      assert.equal(letter.header.get("Cb-Attempts"), "1");
      assert.notEqual(letter.header.get("Cb-Worker"), "");
      assert.match(JSON.parse(letter.header.get("Cb-Failure")).error, /string/);
      assert.ok(body.equals(await whole({ headers: letter.header, data: letter.data }, blob)));

      const again = headers();
      for (const name of ["Content-Type", "Cb-Level", "Cb-Session", "Cb-Chunks"]) {
        if (letter.header.has(name)) again.set(name, letter.header.get(name));
      }
      await js.publish("cb.call.square", letter.data, { msgID: `${run}-again`, headers: again });
      await jsm.streams.deleteMessage("CB_DEAD", letter.seq);
      const second = await until("the letter of the second call", () => find(`${run}-again`)); // it fails as the first did
      assert.ok(body.equals(await whole({ headers: second.header, data: second.data }, blob)));
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (e) {
    console.error(`${name}:`, e);
    process.exit(1);
  }
  console.log(`ok: ${name}`);
}
await nc.drain();
