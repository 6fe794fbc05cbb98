#include "engine/schema.h"

#include <stddef.h>

const char *const db_migrations[] = {
    /* 1 */
    "CREATE TABLE meta ("
    "  key TEXT PRIMARY KEY,"
    "  value TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE images ("
    "  id TEXT PRIMARY KEY,"  /* sha256:HEX of the config */
    "  config TEXT NOT NULL," /* the config document */
    "  created_ns INTEGER NOT NULL,"
    "  size INTEGER NOT NULL,"  /* bytes of the unpacked layers */
    "  chain_ids TEXT NOT NULL" /* JSON array, bottom layer first */
    ") STRICT;"

    "CREATE TABLE image_tags ("
    "  ref TEXT PRIMARY KEY," /* familiar form: busybox:latest */
    "  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX image_tags_image ON image_tags (image_id);"

    "CREATE TABLE containers ("
    "  id TEXT PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE," /* without the slash */
    "  image_id TEXT NOT NULL,"
    "  isolation TEXT NOT NULL," /* process, hyperv */
    "  created_ns INTEGER NOT NULL,"
    "  config TEXT NOT NULL," /* JSON: Config, HostConfig, NetworkingConfig, Mounts */
    "  state TEXT NOT NULL"   /* JSON: see container_store.c */
    ") STRICT;"

    "CREATE TABLE volumes ("
    "  name TEXT PRIMARY KEY,"
    "  created_ns INTEGER NOT NULL,"
    "  anonymous INTEGER NOT NULL," /* made for a container, without a name given */
    "  labels TEXT NOT NULL,"       /* JSON object */
    "  options TEXT NOT NULL,"      /* JSON object */
    "  filled INTEGER NOT NULL"     /* the image's content has been copied up, or there was none to copy */
    ") STRICT;"

    "CREATE TABLE addresses ("
    "  ctr TEXT PRIMARY KEY,"
    "  network TEXT NOT NULL,"
    "  ip INTEGER NOT NULL," /* IPv4, host byte order */
    "  mac TEXT NOT NULL,"
    "  UNIQUE (network, ip)"
    ") STRICT;",

    /* 2 */
    "CREATE TABLE layers ("
    "  chain_id TEXT PRIMARY KEY," /* sha256:HEX */
    "  size INTEGER NOT NULL"      /* bytes of the unpacked files */
    ") STRICT, WITHOUT ROWID;",

    /* 3 */
    "CREATE TABLE layer_blobs ("
    "  chain_id TEXT PRIMARY KEY,"
    "  digest TEXT NOT NULL," /* of the archive that the layer came as */
    "  size INTEGER NOT NULL,"
    "  media_type TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX layer_blobs_digest ON layer_blobs (digest);"

    "CREATE TABLE image_manifests ("
    "  image_id TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,"
    "  digest TEXT NOT NULL," /* the manifest that the image came with */
    "  size INTEGER NOT NULL,"
    "  media_type TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX image_manifests_digest ON image_manifests (digest);"

    "CREATE TABLE image_digests ("
    "  ref TEXT PRIMARY KEY," /* familiar form: busybox@sha256:HEX */
    "  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX image_digests_image ON image_digests (image_id);",

    /* 4: networks. Before, there were the built-in ones, known by rows of meta alone */
    "CREATE TABLE networks ("
    "  id TEXT PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE,"
    "  driver TEXT NOT NULL," /* bridge, host, null */
    "  created_ns INTEGER NOT NULL,"
    "  subnet TEXT NOT NULL,"   /* 172.18.0.0/16, "" = none yet, or never */
    "  gateway TEXT NOT NULL,"  /* "" = the subnet's first address */
    "  ip_range TEXT NOT NULL," /* "" = the whole subnet */
    "  internal INTEGER NOT NULL,"
    "  attachable INTEGER NOT NULL,"
    "  labels TEXT NOT NULL,"  /* JSON object */
    "  options TEXT NOT NULL," /* JSON object */
    "  ipam TEXT NOT NULL"     /* JSON object: as it was asked for */
    ") STRICT;"

    "CREATE TABLE endpoints ("
    "  id TEXT PRIMARY KEY,"
    "  network TEXT NOT NULL REFERENCES networks (id),"
    "  ctr TEXT NOT NULL,"
    "  slot INTEGER NOT NULL," /* eth0, eth1... of the container */
    "  ip INTEGER NOT NULL,"   /* IPv4, host byte order */
    "  mac TEXT NOT NULL,"
    "  UNIQUE (network, ip),"
    "  UNIQUE (ctr, network),"
    "  UNIQUE (ctr, slot)"
    ") STRICT;"

    "INSERT INTO networks SELECT m.value, b.name, b.driver, 0, "
    "  CASE b.name WHEN 'bridge' THEN coalesce((SELECT value FROM meta WHERE key = "
    "    'network.bridge.subnet'), '') ELSE '' END, '', '', 0, 0, '{}', '{}', '{}' "
    "  FROM meta m JOIN (SELECT 'bridge' AS name, 'bridge' AS driver UNION ALL SELECT 'host', 'host' "
    "    UNION ALL SELECT 'none', 'null') b ON m.key = 'network.' || b.name || '.id';"
    "INSERT INTO endpoints SELECT a.ctr, n.id, a.ctr, 0, a.ip, a.mac FROM addresses a JOIN networks n "
    "  ON n.name = a.network;"
    "DROP TABLE addresses;"
    "DELETE FROM meta WHERE key LIKE 'network.%';",

    /* 5: IPv6 */
    "ALTER TABLE networks ADD COLUMN subnet6 TEXT NOT NULL DEFAULT '';"	/* "" = no IPv6 */
    "ALTER TABLE networks ADD COLUMN gateway6 TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE networks ADD COLUMN ip_range6 TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE endpoints ADD COLUMN ip6 TEXT NOT NULL DEFAULT '';"	/* as inet_ntop writes it */
    "CREATE UNIQUE INDEX endpoints_ip6 ON endpoints (network, ip6) WHERE ip6 != '';",

    /* 6: what has come and is not on the disk yet (image_sync.c) */
    "CREATE TABLE unsynced ("
    "  seq INTEGER PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE," /* image id or chain id */
    "  boot TEXT NOT NULL"	    /* of the machine: boot_id */
    ") STRICT;",

    NULL};
