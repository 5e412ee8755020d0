// Counts the words of a text: {"and":2,"the":5}. Words are letters, digits and all
// that isn't ASCII; capitals are taken for small letters.
import { argument, result, Value } from "./cloudburst";

function isWord(c: i32): bool {
  return c >= 0x80 || (c >= 0x30 && c <= 0x39) || ((c | 32) >= 0x61 && (c | 32) <= 0x7a);
}

export function handler(): void {
  const text = argument().toString();
  const counts = new Map<string, i32>();
  let from = 0;
  for (let i = 0; i <= text.length; i++) {
    if (i < text.length && isWord(text.charCodeAt(i))) continue;
    if (i > from) {
      const word = text.substring(from, i).toLowerCase();
      counts.set(word, counts.has(word) ? counts.get(word) + 1 : 1);
    }
    from = i + 1;
  }

  const words = counts.keys().sort();
  const members: string[] = [];
  for (let i = 0; i < words.length; i++) {
    members.push('"' + words[i] + '":' + counts.get(words[i]).toString()); // nothing of it would be escaped
  }
  result(Value.json("{" + members.join(",") + "}"));
}
