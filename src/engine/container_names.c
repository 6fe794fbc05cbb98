/* Random names: ADJECTIVE_SURNAME. The surnames are of people who built houses, and of those who wrote on
 * building. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/id.h"

static const char *const adjectives[] = {
    "airy",    "amber",  "arched", "bold",     "brave",   "bright",  "brisk",   "calm",    "candid",
    "civic",   "clever", "cosy",   "daring",   "deft",    "eager",   "earnest", "fair",    "festive",
    "fond",    "frank",  "gentle", "glad",     "golden",  "grand",   "hardy",   "honest",  "humble",
    "jolly",   "keen",   "kind",   "lively",   "lofty",   "loyal",   "lucid",   "mellow",  "merry",
    "modest",  "nimble", "noble",  "open",     "patient", "placid",  "plucky",  "polite",  "proud",
    "quick",   "quiet",  "ready",  "roomy",    "rustic",  "serene",  "sharp",   "shining", "silent",
    "smiling", "snug",   "sober",  "solid",    "spry",    "steady",  "stoic",   "sunny",   "sturdy",
    "swift",   "tender", "tidy",   "tranquil", "trusty",  "upright", "vivid",   "warm",    "wise",
    "witty",   "zesty",
};

static const char *const surnames[] = {
    "aalto",      "adam",       "alberti",   "apollodorus", "bawa",     "behrens",      "bernini",
    "blomstedt",  "boffrand",   "borromini", "bramante",    "breuer",   "brunelleschi", "candela",
    "correa",     "doshi",      "eames",     "eiffel",      "fathy",    "fontana",      "gaudi",
    "gehry",      "gilbert",    "gray",      "gropius",     "guarini",  "hadid",        "horta",
    "imhotep",    "isidore",    "jacobsen",  "jones",       "juvarra",  "kahn",         "lasdun",
    "latrobe",    "ledoux",     "loos",      "lutyens",     "maderno",  "mansart",      "maybeck",
    "mendelsohn", "michelucci", "morgan",    "neutra",      "niemeyer", "nervi",        "otto",
    "palladio",   "paxton",     "perret",    "piano",       "plecnik",  "prouve",       "pugin",
    "rietveld",   "rudolph",    "ruskin",    "saarinen",    "sangallo", "scarpa",       "scharoun",
    "schinkel",   "semper",     "serlio",    "shukhov",     "sinan",    "soane",        "soufflot",
    "sullivan",   "tange",      "tatlin",    "taut",        "utzon",    "vasari",       "vauban",
    "vignola",    "vitruvius",  "wagner",    "wren",        "wright",   "yamasaki",     "zumthor",
};

char *container_random_name(struct engine *e)
{
	for (unsigned i = 0;; i++) {
		uint32_t v[3];
		char *name;

		random_bytes(v, sizeof v);
		name = xasprintf("%s_%s", adjectives[v[0] % ARRAY_SIZE(adjectives)],
				 surnames[v[1] % ARRAY_SIZE(surnames)]);
		if (i > 8) {		/* crowded: add digits, as Docker does */
			char *with = xasprintf("%s%u", name, v[2] % 100000);

			free(name);
			name = with;
		}
		if (!hmap_get(&e->containers->by_name, name))
			return name;
		free(name);
	}
}
