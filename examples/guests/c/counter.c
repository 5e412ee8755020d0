/* counter: counts the visits of a page, and says how many there were.
 *
 *     cloudburst call counter '"home"'
 *
 * The count is a lattice: calls at the same time, on machines that don't know of
 * each other, all count, and a call that is repeated counts once.
 */
#include "cloudburst.h"

int main(void) {
	cb_value args, total;
	cb_must(cb_args(&args));
	char *page = cb_is_json(&args) ? cb_string(&args) : NULL;
	if (page == NULL) {
		cb_fail("counter: the argument is to be the name of a page, such as \"home\"");
	}
	char *key = cb_alloc(strlen("visits:") + strlen(page) + 1);
	strcpy(key, "visits:");
	strcat(key, page);
	cb_must(cb_update(NULL, key, "counter", "1"));
	cb_must(cb_read(NULL, key, "counter", &total));
	puts(total.data);
	return 0;
}
