/* Limits of block devices (--blkio-weight, --device-read-bps...). Devices are the host's in both isolation
 * modes: what a virtual machine reads and writes, its monitor reads and writes there. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define WEIGHT_MIN 10
#define WEIGHT_MAX 1000

/* Of the API, and of the OCI specification: a list of {Path, value} each. */
static const struct { const char *field, *value, *oci, *oci_value; } lists[] = {
	{ "BlkioWeightDevice", "Weight", "weightDevice", "weight" },
	{ "BlkioDeviceReadBps", "Rate", "throttleReadBpsDevice", "rate" },
	{ "BlkioDeviceWriteBps", "Rate", "throttleWriteBpsDevice", "rate" },
	{ "BlkioDeviceReadIOps", "Rate", "throttleReadIOPSDevice", "rate" },
	{ "BlkioDeviceWriteIOps", "Rate", "throttleWriteIOPSDevice", "rate" },
};

static int device_number(const char *path, dev_t *ret, struct err *err)
{
	struct stat st;

	if (str_empty(path))
		return err_msg(err, ERR_INVALID, 0, "a limit of block I/O needs the path of a device");
	if (stat(path, &st) < 0)
		return err_msg(err, ERR_INVALID, -errno, "stat %s: %s", path,
			       errno == ENOENT ? "no such file or directory" : strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return err_msg(err, ERR_INVALID, 0, "%s: not a block device", path);
	*ret = st.st_rdev;
	return 0;
}

static int check_weight(int64_t weight, struct err *err)
{
	if (weight && (weight < WEIGHT_MIN || weight > WEIGHT_MAX))
		return err_msg(err, ERR_INVALID, 0, "Range of blkio weight is from %d to %d", WEIGHT_MIN,
			       WEIGHT_MAX);
	return 0;
}

static int add_list(const struct json *hc, size_t i, struct json *io, struct err *err)
{
	const struct json *v = json_get(hc, lists[i].field);
	struct json *to = json_len(v) ? json_set(io, lists[i].oci, json_array()) : NULL;

	for (size_t k = 0; k < json_len(v); k++) {
		const struct json *d = json_at(v, k);
		int64_t value = json_get_int(d, lists[i].value, 0);
		struct json *o = json_add(to, json_object());
		dev_t dev;
		int r = device_number(json_get_str(d, "Path"), &dev, err);

		if (r == 0 && value < 0)
			r = err_msg(err, ERR_INVALID, 0, "HostConfig.%s: a negative number", lists[i].field);
		if (r == 0 && streq(lists[i].value, "Weight"))
			r = check_weight(value, err);
		if (r < 0)
			return r;
		json_set_int(o, "major", major(dev));
		json_set_int(o, "minor", minor(dev));
		json_set_int(o, lists[i].oci_value, value);
	}
	return 0;
}

bool blkio_asked(const struct json *hc)
{
	bool any = json_get_int(hc, "BlkioWeight", 0);

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		any |= json_len(json_get(hc, lists[i].field)) > 0;
	return any;
}

int blkio_limits(const struct json *hc, struct json *res, struct err *err)
{
	struct json *io = json_object();
	int64_t weight = json_get_int(hc, "BlkioWeight", 0);
	bool any = weight;
	int r = check_weight(weight, err);

	if (weight)
		json_set_int(io, "weight", weight);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(lists); i++) {
		any |= json_len(json_get(hc, lists[i].field)) > 0;
		r = add_list(hc, i, io, err);
	}
	if (r == 0 && any)
		json_set(res, "blockIO", io);
	else
		json_free(io);
	return r;
}
