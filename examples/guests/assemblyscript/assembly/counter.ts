// Counts the visits of a page, whose name is the argument, and returns how many there
// were. All calls share the count; one that is run again, because a worker died,
// counts once.
import { argument, counter, result, Value } from "./cloudburst";
import { fail } from "./wasi";

export function handler(): void {
  const page = argument();
  if (!page.isString) fail('the argument is to be the name of a page, such as "home"');
  const visits = counter("visits:" + page.toString());
  visits.add(1);
  result(Value.json(visits.total().toString()));
}
