/* Other people's firewalls. An `accept` of ours does not undo a `drop` of theirs, and their rules are not
 * ours to change: what would stop a container's packets is named, with the command that opens it. Where the
 * administrator wants it (open-firewall) the daemon gives that command itself, for the firewalls that have
 * one meant for it, when a bridge comes, and its opposite when the bridge goes. */
#include "engine/firewall.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sbuf.h"
#include "base/strv.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "lib/nft.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <string.h>
#include <unistd.h>

/* Who made a table, by a chain that only they have; and how they want to be asked. @ is the bridge, ^ is
 * iptables of the table's family. */
static const struct maker {
	const char *chain, *name, *open, *close;
} makers[] = {
	{"DOCKER-USER", "Docker", "^ -I DOCKER-USER -i @ -j ACCEPT; ^ -I DOCKER-USER -o @ -j ACCEPT",
	 "^ -D DOCKER-USER -i @ -j ACCEPT; ^ -D DOCKER-USER -o @ -j ACCEPT"},
	{"ufw-user-forward", "ufw", "ufw route allow in on @; ufw route allow out on @",
	 "ufw route delete allow in on @; ufw route delete allow out on @"},
	{"ufw6-user-forward", "ufw", "ufw route allow in on @; ufw route allow out on @",
	 "ufw route delete allow in on @; ufw route delete allow out on @"},
	{"filter_FORWARD_POLICIES_pre", "firewalld",
	 "firewall-cmd --permanent --zone=trusted --add-interface=@; "
	 "firewall-cmd --zone=trusted --add-interface=@",
	 "firewall-cmd --permanent --zone=trusted --remove-interface=@; "
	 "firewall-cmd --zone=trusted --remove-interface=@"},
};

static const struct family {
	uint8_t number;
	const char *name, *iptables;
} families[] = {
	{NFPROTO_IPV4, "ip", "iptables"}, {NFPROTO_INET, "inet", "iptables"},
	{NFPROTO_IPV6, "ip6", "ip6tables"},
};

/* A table that drops what is forwarded, or whose maker is known. */
struct table { char *name; const struct maker *maker; char *drops; };
struct look { struct table v[32]; size_t n; };

static struct table *table_of(struct look *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i].name, name))
			return &l->v[i];
	if (l->n == ARRAY_SIZE(l->v))
		return NULL;
	l->v[l->n] = (struct table){.name = xstrdup(name)};
	return &l->v[l->n++];
}

static void on_chain(void *ud, const struct nft_chain *c)
{
	struct table *t = table_of(ud, c->table);

	if (!t)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(makers); i++)
		if (streq(c->name, makers[i].chain))
			t->maker = &makers[i];
	if (c->base && c->hook == NF_INET_FORWARD && c->policy == NF_DROP && !t->drops)
		t->drops = xstrdup(c->name);
	/* firewalld accepts by policy and rejects by its last rule */
	if (c->base && c->hook == NF_INET_FORWARD && streq(c->table, "firewalld") && !t->drops)
		t->drops = xstrdup(c->name);
}

/* Calls fn for each table that drops; mentioned: one of its rules speaks of the bridge. */
static void look_around(struct nft *nft, const char *bridge, bool ipv6,
			void (*fn)(void *ud, const struct table *t, const struct family *f, bool mentioned),
			void *ud)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		struct look l = {0};

		if (f->number == NFPROTO_IPV6 && !ipv6)
			continue;
		(void)nft_chains(nft, f->number, on_chain, &l);
		for (size_t k = 0; k < l.n; k++) {
			struct table *t = &l.v[k];

			if (t->drops)
				fn(ud, t, f, nft_rules_mention(nft, f->number, t->name, NULL, bridge,
							       strlen(bridge)) > 0);
			free(t->name);
			free(t->drops);
		}
	}
}

static void fill_in(const char *template, const char *bridge, const struct family *f, struct sbuf *out)
{
	for (const char *p = template; *p; p++) {
		if (*p == '@')
			sbuf_puts(out, bridge);
		else if (*p == '^')
			sbuf_puts(out, f->iptables);
		else
			sbuf_add(out, p, 1);
	}
}

/* --- warning --- */

struct warning { const char *bridge; char ***warnings; };

static void warn(void *ud, const struct table *t, const struct family *f, bool mentioned)
{
	const struct warning *w = ud;
	_cleanup_sbuf_ struct sbuf command = SBUF_INIT;

	if (mentioned)		/* that is the opening */
		return;
	if (t->maker)
		fill_in(t->maker->open, w->bridge, f, &command);
	else
		sbuf_printf(&command,
			    "nft insert rule %s %s %s iifname %s accept; "
			    "nft insert rule %s %s %s oifname %s accept",
			    f->name, t->name, t->drops, w->bridge, f->name, t->name, t->drops, w->bridge);
	strv_addf(w->warnings,
		  "Chain %s of table %s %s%s%s%s drops what is forwarded to and from bridge %s. "
		  "Open it by: %s",
		  t->drops, f->name, t->name, t->maker ? " (" : "", t->maker ? t->maker->name : "",
		  t->maker ? ")" : "", w->bridge, sbuf_str(&command));
}

void firewall_warn(struct engine *e, const struct json *attachments, char ***warnings)
{
	struct nft *nft = publish_nft(e);
	struct json_iter it = {0};

	/* without nf_tables in the kernel there is nobody */
	while (nft && json_next(attachments, &it)) {
		bool ipv6;
		const char *bridge = network_bridge(e, it.key, &ipv6);

		if (bridge)
			look_around(nft, bridge, ipv6, warn, &(struct warning){bridge, warnings});
	}
}

/* --- opening --- */

struct wish { const char *bridge; bool open; char ***commands; };

static void add_commands(void *ud, const struct table *t, const struct family *f, bool mentioned)
{
	const struct wish *w = ud;
	_cleanup_strv_ char **parts = NULL;

	if (!t->maker || mentioned == w->open)
		return;
	parts = strv_split(w->open ? t->maker->open : t->maker->close, ";");
	for (char **p = parts; p && *p; p++) {
		_cleanup_sbuf_ struct sbuf one = SBUF_INIT;

		fill_in(*p + strspn(*p, " "), w->bridge, f, &one);
		if (!strv_has(*w->commands, sbuf_str(&one)))
			strv_add(w->commands, sbuf_str(&one));
	}
}

void firewall_commands(struct engine *e, const char *bridge, bool ipv6, bool open, char ***commands)
{
	struct nft *nft = publish_nft(e);

	if (nft && e->cfg.open_firewall)
		look_around(nft, bridge, ipv6, add_commands, &(struct wish){bridge, open, commands});
}

/* Where PATH of the daemon has it; heap, NULL. */
static char *find_program(const char *name)
{
	_cleanup_strv_ char **dirs = strv_split(getenv("PATH") ?: "/usr/sbin:/usr/bin:/sbin:/bin", ":");

	for (char **d = dirs; d && *d; d++) {
		_cleanup_free_ char *path = path_join(*d, name);

		if (**d == '/' && fs_exists(path))
			return TAKE_PTR(path);
	}
	return NULL;
}

void firewall_run(char *const *commands)
{
	for (; commands && *commands; commands++) {
		_cleanup_strv_ char **argv = strv_split(*commands, " ");
		_cleanup_free_ char *path = argv ? find_program(argv[0]) : NULL;
		struct spawn_args a = {.path = path, .argv = argv, .envp = environ, .keep_stderr = true};
		_cleanup_proc_ struct proc p = PROC_INIT;
		int code = 0, r = path ? proc_spawn(&a, &p) : -ENOENT;

		if (r == 0)
			r = proc_wait(&p, &code);
		if (r < 0 || code)
			log_warn("'%s' failed: %s", *commands, r < 0 ? strerror(-r) : "see above");
	}
}

bool firewall_user_rules(const char *table)
{
	_cleanup_nft_ struct nft *nft = NULL;

	return nft_open(&nft) == 0 &&
	       (nft_rules_mention(nft, NFPROTO_IPV4, table, "insula-user", NULL, 0) > 0 ||
		nft_rules_mention(nft, NFPROTO_IPV6, table, "insula-user", NULL, 0) > 0);
}
