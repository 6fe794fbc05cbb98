/* Other people's firewalls. An `accept` of ours does not undo a `drop` of theirs, and their rules are not
 * ours to change: what would stop a container's packets is named, with the command that opens it. Two ways
 * may be closed: through the host, and to it, for the names that insula-resolver answers. Where the
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

enum { THROUGH, NAMES, N_WAYS };

/* How a way is opened and closed, and the chain in which that shows; NULL: any of the table.
 * @ is the bridge, ^ is iptables of the table's family, $ is the port of insula-resolver. */
struct opening { const char *open, *close, *shows; };

#define UFW(v)											\
	{											\
		"ufw" v "-user-forward", "ufw", {						\
			{"ufw route allow in on @; ufw route allow out on @",			\
			 "ufw route delete allow in on @; ufw route delete allow out on @",	\
			 "ufw" v "-user-forward"},						\
			{"ufw allow in on @ to any port $",					\
			 "ufw delete allow in on @ to any port $", "ufw" v "-user-input"},	\
		}										\
	}

/* Who made a table, by a chain that only they have; and how they want to be asked. */
static const struct maker {
	const char *chain, *name;
	struct opening ways[N_WAYS];
} makers[] = {
	{"DOCKER-USER", "Docker",
	 {{"^ -I DOCKER-USER -i @ -j ACCEPT; ^ -I DOCKER-USER -o @ -j ACCEPT",
	   "^ -D DOCKER-USER -i @ -j ACCEPT; ^ -D DOCKER-USER -o @ -j ACCEPT", NULL}}},
	UFW(""),
	UFW("6"),
	/* the zone is for both ways */
	{"filter_FORWARD_POLICIES_pre", "firewalld",
	 {{"firewall-cmd --permanent --zone=trusted --add-interface=@; "
	   "firewall-cmd --zone=trusted --add-interface=@",
	   "firewall-cmd --permanent --zone=trusted --remove-interface=@; "
	   "firewall-cmd --zone=trusted --remove-interface=@", NULL}}},
};

/* Where nobody has a way that is meant for it. % is family and table, # the chain. */
static const char *const by_rules[N_WAYS] = {
	"nft insert rule % # iifname @ accept; nft insert rule % # oifname @ accept",
	"nft insert rule % # iifname @ udp dport $ accept; nft insert rule % # iifname @ tcp dport $ accept",
};
static const char *const what_is_dropped[N_WAYS] = {
	"what is forwarded to and from bridge @",
	"what containers on bridge @ ask for names",
};

static const struct family {
	uint8_t number;
	const char *name, *iptables;
} families[] = {
	{NFPROTO_IPV4, "ip", "iptables"}, {NFPROTO_INET, "inet", "iptables"},
	{NFPROTO_IPV6, "ip6", "ip6tables"},
};

/* A table that drops by these chains, or whose maker is known. */
struct table { char *name; const struct maker *maker; char *drops[N_WAYS]; };
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
	if (!c->base || (c->hook != NF_INET_FORWARD && c->hook != NF_INET_LOCAL_IN))
		return;
	char **drops = &t->drops[c->hook == NF_INET_FORWARD ? THROUGH : NAMES];

	if (c->policy == NF_DROP && !*drops)
		*drops = xstrdup(c->name);
	/* firewalld accepts by policy and rejects by its last rule */
	if (c->hook == NF_INET_FORWARD && streq(c->table, "firewalld") && !*drops)
		*drops = xstrdup(c->name);
}

/* A way of a bridge that a table closes; opened: a rule speaks of the bridge. */
struct closed {
	const struct table *table;
	const struct family *family;
	int way;
	const char *bridge;
	unsigned port;
	bool opened;
};

static void look_at(struct nft *nft, struct closed *c, void (*fn)(void *ud, const struct closed *c), void *ud)
{
	const struct table *t = c->table;

	for (c->way = 0; c->way < N_WAYS; c->way++) {
		const char *shows = t->maker && t->maker->ways[c->way].open ? t->maker->ways[c->way].shows :
				    c->way == NAMES			    ? t->drops[NAMES] : NULL;

		/* the resolver has IPv4 alone, and no port before it has run */
		if (!t->drops[c->way] || (c->way == NAMES && (c->family->number == NFPROTO_IPV6 || !c->port)))
			continue;
		c->opened = nft_rules_mention(nft, c->family->number, t->name, shows, c->bridge,
					      strlen(c->bridge)) > 0;
		fn(ud, c);
	}
}

static void look_around(struct engine *e, const char *bridge, bool ipv6,
			void (*fn)(void *ud, const struct closed *c), void *ud)
{
	struct nft *nft = publish_nft(e);

	for (size_t i = 0; nft && i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		struct look l = {0};

		if (f->number == NFPROTO_IPV6 && !ipv6)
			continue;
		(void)nft_chains(nft, f->number, on_chain, &l);
		for (size_t k = 0; k < l.n; k++) {
			struct table *t = &l.v[k];

			look_at(nft, &(struct closed){.table = t, .family = f, .bridge = bridge,
						      .port = network_names_port(e)}, fn, ud);
			free(t->name);
			free(t->drops[THROUGH]);
			free(t->drops[NAMES]);
		}
	}
}

static void fill_in(const char *template, const struct closed *c, struct sbuf *out)
{
	for (const char *p = template; *p; p++) {
		switch (*p) {
		case '@':
			sbuf_puts(out, c->bridge);
			break;
		case '^':
			sbuf_puts(out, c->family->iptables);
			break;
		case '$':
			sbuf_printf(out, "%u", c->port);
			break;
		case '%':
			sbuf_printf(out, "%s %s", c->family->name, c->table->name);
			break;
		case '#':
			sbuf_puts(out, c->table->drops[c->way]);
			break;
		default:
			sbuf_add(out, p, 1);
		}
	}
}

/* --- warning --- */

static void warn(void *ud, const struct closed *c)
{
	const struct maker *m = c->table->maker;
	_cleanup_sbuf_ struct sbuf what = SBUF_INIT, command = SBUF_INIT;

	if (c->opened)
		return;
	fill_in(what_is_dropped[c->way], c, &what);
	fill_in(m && m->ways[c->way].open ? m->ways[c->way].open : by_rules[c->way], c, &command);
	strv_addf(ud, "Chain %s of table %s %s%s%s%s drops %s. Open it by: %s", c->table->drops[c->way],
		  c->family->name, c->table->name, m ? " (" : "", m ? m->name : "", m ? ")" : "",
		  sbuf_str(&what), sbuf_str(&command));
}

void firewall_warn(struct engine *e, const struct json *attachments, char ***warnings)
{
	struct json_iter it = {0};

	while (json_next(attachments, &it)) {
		bool ipv6;
		const char *bridge = network_bridge(e, it.key, &ipv6);

		if (bridge)
			look_around(e, bridge, ipv6, warn, warnings);
	}
}

/* --- opening --- */

struct wish { bool open; char ***commands; };

static void add_commands(void *ud, const struct closed *c)
{
	const struct wish *w = ud;
	const struct opening *o = c->table->maker ? &c->table->maker->ways[c->way] : NULL;
	_cleanup_strv_ char **parts = NULL;

	if (!o || !o->open || c->opened == w->open)
		return;
	parts = strv_split(w->open ? o->open : o->close, ";");
	for (char **p = parts; p && *p; p++) {
		_cleanup_sbuf_ struct sbuf one = SBUF_INIT;

		fill_in(*p + strspn(*p, " "), c, &one);
		if (!strv_has(*w->commands, sbuf_str(&one)))
			strv_add(w->commands, sbuf_str(&one));
	}
}

void firewall_commands(struct engine *e, const char *bridge, bool ipv6, bool open, char ***commands)
{
	if (e->cfg.open_firewall)
		look_around(e, bridge, ipv6, add_commands, &(struct wish){open, commands});
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
