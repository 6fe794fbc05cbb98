#include "engine/guest_kernel.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* The x86 boot protocol: a mark, and where the text with the release is, counted from the second sector. */
#define MARK_AT 0x202
#define TEXT_AT 0x20e
#define SECTOR 0x200

char *guest_kernel_release(const struct engine *e)
{
	_cleanup_free_ char *path = path_join(e->cfg.vm_dir, "vmlinuz");
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char mark[4], text[65] = "";
	uint16_t at;

	if (fd < 0 || pread(fd, mark, sizeof mark, MARK_AT) != sizeof mark || memcmp(mark, "HdrS", 4) != 0 ||
	    pread(fd, &at, sizeof at, TEXT_AT) != sizeof at ||
	    pread(fd, text, sizeof text - 1, SECTOR + le16toh(at)) <= 0)
		return NULL;
	text[strcspn(text, " ")] = 0;
	return *text >= '0' && *text <= '9' ? xstrdup(text) : NULL;
}
