/* In QEMU's place: says yes to everything its monitor is told, and that its machine has stopped, as QEMU does
 * where KVM cannot go on with a guest. */
#include <stdio.h>
#include <string.h>

#define FD_QMP 10	/* vm/qemu/args.h */

int main(void)
{
	FILE *in = fdopen(FD_QMP, "r"), *out = fdopen(FD_QMP, "w");
	static const char stopped[] = "{\"status\": \"internal-error\", \"running\": false}";
	char line[4096];

	if (!in || !out)
		return 1;
	fprintf(out, "{\"QMP\": {}}\n");
	fflush(out);
	while (fgets(line, sizeof line, in)) {
		fprintf(out, "{\"return\": %s}\n", strstr(line, "query-status") ? stopped : "{}");
		fflush(out);
	}
	return 0;
}
