// Answers one message, a number, with the next number. Who sends it finds this execution
// by its id, which is put under the key that is the argument.
import { argument, id, put, quote, recv, result, send, Value } from "./cloudburst";
import { fail } from "./wasi";

export function handler(): void {
  const key = argument();
  if (!key.isString) fail("the argument is to be the key for the id");
  put(key.toString(), Value.json(quote(id())));
  const ping = recv(10000);
  if (!ping) {
    fail("nobody sent anything within ten seconds");
    return;
  }
  send(ping.from, Value.json((I64.parseInt(ping.value.toString()) + 1).toString()));
  result(Value.json(quote("answered " + ping.from)));
}
