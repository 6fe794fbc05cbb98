/* At the start of the daemon: which containers run, which have ended meanwhile, and what is nobody's.
 *
 * For each container that is recorded as running, or as being started (container_resume.c): its supervisor
 * answers on its socket and tells the states of its tasks; or it is gone and has left an exit record; or it
 * is gone without one, and the container with it. What those have left in control groups is killed before
 * anything is decided about them: a group has the name of its container, which may be started again at once.
 * A changed boot id means that all have exited. A supervisor in which no container is recorded (the daemon
 * died in the middle of a removal) is ended. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "engine/volume.h"
#include "engine/worker.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>

#define ADOPT_WAIT_US 2000000	/* for all supervisors together; a slower one is adopted when it answers */
#define REAP_WAIT_US 20000000	/* for all control groups; only what the kernel does not let die takes long */

struct adoption {
	unsigned waiting;
	bool reaping;
	char **lost;		/* ids of containers whose supervisor is gone */
};

static void on_hello(void *ud, int r)
{
	struct adoption *a = ud;

	if (a->waiting)
		a->waiting--;
}

/* A former daemon knew that it is in its sandbox. */
static bool recorded(const struct container *c)
{
	return c->status == CTR_RUNNING || c->starting;
}

static bool sandbox_in_use(const struct engine *e, const char *id)
{
	list_for_each(c, &e->containers->all, struct container, link)
		if (recorded(c) && streq(c->sandbox, id))
			return true;
	return false;
}

static void adopt(struct container *c, struct adoption *a)
{
	struct engine *e = c->engine;
	_cleanup_free_ char *dir = sandbox_dir(e, c->id);
	int r;

	if (!recorded(c) && (!fs_exists(dir) || sandbox_in_use(e, c->id)))
		return;
	if (!recorded(c))
		str_replace(&c->sandbox, c->id);
	if (c->status != CTR_RUNNING)
		container_resume(c);
	r = sup_adopt(c, on_hello, a);
	if (r >= 0) {
		a->waiting += (unsigned)r;
		resume_found(c);
	} else {
		strv_add(&a->lost, c->id);
	}
}

static void reaped(void *ud)
{
	struct adoption *a = ud;

	a->reaping = false;
}

/* Their groups, and those of the machines that they were in. */
static void reap_lost(struct engine *e, struct adoption *a)
{
	_cleanup_strv_ char **ids = strv_copy(a->lost);
	uint64_t end = now_mono_us() + REAP_WAIT_US, now;

	for (char **id = a->lost; *id; id++) {
		const struct container *c = hmap_get(&e->containers->by_id, *id);

		if (c && !strv_has(ids, c->sandbox))
			strv_add(&ids, c->sandbox);
	}
	a->reaping = true;
	cgroup_reap(e, ids, reaped, a);
	while (a->reaping && (now = now_mono_us()) < end)
		if (loop_run_once(e->loop, (int)((end - now) / 1000) + 1) < 0)
			break;
}

static void decide_lost(struct engine *e, struct adoption *a)
{
	if (a->lost)
		reap_lost(e, a);
	for (char **id = a->lost; id && *id; id++) {
		struct container *c = hmap_get(&e->containers->by_id, *id);
		_cleanup_free_ char *dir = c ? sandbox_dir(e, c->sandbox) : NULL;

		if (c)
			(void)container_sup_lost(c, dir);
	}
	strv_free(TAKE_PTR(a->lost));
}

static void end_all(struct engine *e)
{
	list_for_each(c, &e->containers->all, struct container, link) {
		struct exit_info x = {.code = 137, .error = "the host was restarted"};

		if (c->status == CTR_RUNNING)
			container_exited(c, &x);
	}
}

/* ---- what is nobody's ---- */

struct stray { struct conn *conn; char *dir; };

static void stray_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

static void stray_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
}

static void stray_close(struct conn *c, int r, void *ud)
{
	struct stray *s = ud;

	conn_free(s->conn);
	sandbox_dir_remove(s->dir);
	free(s->dir);
	free(s);
}

static const struct conn_ops stray_ops = {stray_frame, stray_close};

static void end_stray(struct engine *e, const char *id)
{
	_cleanup_free_ char *dir = sandbox_dir(e, id), *path = path_join(dir, "sup.sock");
	struct msg_hello hello = {.version = PROTO_VERSION, .sandbox = (char *)id, .kind = (char *)"insulad"};
	struct msg_shutdown bye = {.sandbox = (char *)id};
	int fd = sock_connect_unix(path);
	struct stray *s;

	if (fd < 0) {
		sandbox_dir_remove(dir);
		if (!hmap_get(&e->containers->by_id, id))	/* else reap_lost() was there */
			cgroup_reap(e, (char *[]){(char *)id, NULL}, NULL, NULL);
		return;
	}
	log_info("ending sandbox %s, which belongs to no container", id);
	s = new0(struct stray);
	s->dir = TAKE_PTR(dir);
	if (conn_new(e->loop, fd, true, &stray_ops, s, &s->conn) < 0) {
		free(s->dir);
		free(s);
		return;
	}
	CONN_REQUEST(s->conn, HELLO, hello, &hello, -1, stray_reply, NULL);
	CONN_REQUEST(s->conn, SHUTDOWN, shutdown, &bye, -1, stray_reply, NULL);
}

static void end_strays(struct engine *e)
{
	_cleanup_free_ char *path = path_join(e->cfg.exec_root, "sandboxes");
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.' && !sandbox_in_use(e, de->d_name) &&
		    !sandbox_lives(e, de->d_name))
			end_stray(e, de->d_name);
	if (d)
		closedir(d);
}

/* Folders of containers that never got into the database, or that left it just before a crash. */
static void trash_strays(struct engine *e)
{
	_cleanup_free_ char *path = path_join(e->cfg.data_root, "containers");
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *dir = path_join(path, de->d_name);

		if (de->d_name[0] != '.' && !hmap_get(&e->containers->by_id, de->d_name))
			trash(e, dir);
	}
	if (d)
		closedir(d);
}

void containers_adopt(struct engine *e)
{
	struct containers *t = e->containers;
	_cleanup_free_ char *boot = db_meta_get(e->db, "boot_id");
	bool rebooted = boot && !streq(boot, t->boot_id);
	struct adoption *a = new0(struct adoption);
	uint64_t end = now_mono_us() + ADOPT_WAIT_US, now;

	if (rebooted)
		end_all(e);
	trash_strays(e);
	list_for_each(c, &t->all, struct container, link)
		adopt(c, a);
	decide_lost(e, a);
	end_strays(e);		/* and what is left of those that were gone */
	while (a->waiting && (now = now_mono_us()) < end)
		if (loop_run_once(e->loop, (int)((end - now) / 1000) + 1) < 0)
			break;
	(void)loop_run_once(e->loop, 0);	/* the states come behind the greeting */
	if (a->waiting)
		log_warn("%u supervisors have not answered yet", a->waiting);
	else if (!a->reaping)
		free(a);
	publish_adopt(e);
	list_for_each(c, &t->all, struct container, link)
		if (c->status == CTR_RUNNING || c->starting)
			mounts_adopt(c);
	endpoints_settle(e);
	volumes_settle(e);
	list_for_each(c, &t->all, struct container, link)
		if (!c->current || c->resume)
			container_after_adoption(c, rebooted);
}
