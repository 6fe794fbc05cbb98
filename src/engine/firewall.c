/* Other people's firewalls. An `accept` of ours does not undo a `drop` of theirs, and their rules are not
 * ours to change: what would stop a container's packets is named, with the command that opens it. */
#include "engine/publish.h"

#include "base/alloc.h"
#include "base/sbuf.h"
#include "base/strv.h"
#include "lib/nft.h"
#include <linux/netfilter.h>
#include <string.h>

/* Who made a table, by a chain that only they have; and how they want to be asked. @ is the bridge. */
static const struct maker {
	const char *chain, *name, *command;
} makers[] = {
	{"DOCKER-USER", "Docker",
	 "iptables -I DOCKER-USER -i @ -j ACCEPT; iptables -I DOCKER-USER -o @ -j ACCEPT"},
	{"ufw-user-forward", "ufw", "ufw route allow in on @; ufw route allow out on @"},
	{"filter_FORWARD_POLICIES_pre", "firewalld",
	 "firewall-cmd --permanent --zone=trusted --add-interface=@; firewall-cmd --reload"},
};

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

static void warn(const struct table *t, const char *family, const char *bridge, char ***warnings)
{
	_cleanup_sbuf_ struct sbuf command = SBUF_INIT;

	for (const char *p = t->maker ? t->maker->command : ""; *p; p++)
		sbuf_add(&command, *p == '@' ? bridge : p, *p == '@' ? strlen(bridge) : 1);
	if (!t->maker)
		sbuf_printf(&command,
			    "nft insert rule %s %s %s iifname %s accept; "
			    "nft insert rule %s %s %s oifname %s accept",
			    family, t->name, t->drops, bridge, family, t->name, t->drops, bridge);
	strv_addf(warnings,
		  "Chain %s of table %s %s%s%s%s drops what is forwarded to and from bridge %s. "
		  "Open it by: %s",
		  t->drops, family, t->name, t->maker ? " (" : "", t->maker ? t->maker->name : "",
		  t->maker ? ")" : "", bridge, sbuf_str(&command));
}

void firewall_warn(struct engine *e, const char *bridge, char ***warnings)
{
	static const struct { uint8_t number; const char *name; } families[] = {
		{NFPROTO_IPV4, "ip"}, {NFPROTO_INET, "inet"},
	};

	struct nft *nft = publish_nft(e);

	/* without nf_tables in the kernel there is nobody */
	for (size_t f = 0; nft && f < ARRAY_SIZE(families); f++) {
		struct look l = {0};

		(void)nft_chains(nft, families[f].number, on_chain, &l);
		for (size_t i = 0; i < l.n; i++) {
			struct table *t = &l.v[i];

			/* a rule that speaks of the bridge is the opening */
			if (t->drops && nft_rules_mention(nft, families[f].number, t->name, NULL, bridge,
							  strlen(bridge)) <= 0)
				warn(t, families[f].name, bridge, warnings);
			free(t->name);
			free(t->drops);
		}
	}
}

bool firewall_user_rules(const char *table)
{
	_cleanup_nft_ struct nft *nft = NULL;

	return nft_open(&nft) == 0 &&
	       (nft_rules_mention(nft, NFPROTO_IPV4, table, "insula-user", NULL, 0) > 0 ||
		nft_rules_mention(nft, NFPROTO_IPV6, table, "insula-user", NULL, 0) > 0);
}
