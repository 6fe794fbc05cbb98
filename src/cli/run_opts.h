/* The options of run and create, and the body of POST /containers/create that they make. Docker's client
 * checks little and so do we: what a container may be is the daemon's to say. */
#pragma once

#include "cli/cli.h"

struct run_opts {
	/* what run itself needs */
	bool detach, rm, sig_proxy, quiet, interactive, tty;
	char *name, *cidfile, *detach_keys, *platform, *pull;
	char **attach;

	/* strings */
	char *hostname, *domainname, *user, *workdir, *entrypoint, *stop_signal, *isolation, *runtime,
	    *restart, *vm_template;
	char *pid_mode, *ipc_mode, *uts_mode, *userns_mode, *cgroupns_mode, *cgroup_parent, *cpuset_cpus,
	    *cpuset_mems;
	char *log_driver, *volume_driver, *ip, *ip6, *mac, *health_cmd, *gpus;
	bool entrypoint_given;

	/* switches */
	bool init, init_given, privileged, read_only, publish_all, no_healthcheck, oom_kill_disable,
	    content_trust;

	/* numbers */
	int64_t cpu_shares, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime, nano_cpus, cpu_count,
	    cpu_percent;
	int64_t memory, memory_reservation, memory_swap, memory_swappiness, kernel_memory, shm_size;
	int64_t oom_score_adj, pids_limit, stop_timeout, blkio_weight, health_retries, io_max_bandwidth,
	    io_max_iops;
	int64_t health_interval, health_timeout, health_start_period, health_start_interval;
	bool pids_limit_given, stop_timeout_given;

	/* lists */
	char **env, **env_files, **labels, **label_files, **annotations, **volumes, **volumes_from, **tmpfs;
	char **cap_add, **cap_drop, **dns, **dns_options, **dns_search, **extra_hosts, **group_add,
	    **security_opts;
	char **devices, **device_rules, **sysctls, **storage_opts, **log_opts, **publish, **expose, **links;
	char **networks, **aliases, **link_local_ips;
	/* already in the API's form */
	struct json *mounts, *ulimits, *read_bps, *write_bps, *read_iops, *write_iops, *weights;
};

enum { RUN_OPTS_MAX = 128 };
/* Fills table (RUN_OPTS_MAX rows) with the options common to run and create, or with all of run's. */
void run_opts_table(struct run_opts *o, bool run, struct opt *table);
void run_opts_done(struct run_opts *o);
/* The body for args (image, command...). NULL and e for options that contradict each other. */
struct json *run_opts_body(const struct run_opts *o, char *const *args, struct err *e);

/* run_parse.c, run_ports.c, run_mount.c, run_network.c: forms that are more than a string. All give -EINVAL
 * and the cause in *why (heap) or e. */
int parse_mount(const struct opt *o, const char *value, char **why); /* OPT_CALL, target struct json ** */
int parse_ulimit(const struct opt *o, const char *value, char **why);
int parse_rate_bytes(const struct opt *o, const char *value, char **why);	/* --device-read-bps */
int parse_rate_ios(const struct opt *o, const char *value, char **why);	/* --device-read-iops */
int parse_weight(const struct opt *o, const char *value, char **why);		/* --blkio-weight-device */
int parse_ram(const struct opt *o, const char *value, char **why);		/* target int64_t * */
int parse_ram_swap(const struct opt *o, const char *value, char **why);	/* -1 allowed */
int parse_cpus(const struct opt *o, const char *value, char **why);
int parse_duration(const struct opt *o, const char *value, char **why);
int parse_env(const struct opt *o, const char *value, char **why);		/* target char *** */
int parse_label(const struct opt *o, const char *value, char **why);
int parse_capability(const struct opt *o, const char *value, char **why);
int parse_attach(const struct opt *o, const char *value, char **why);
int parse_dns(const struct opt *o, const char *value, char **why);
int parse_extra_host(const struct opt *o, const char *value, char **why);
int parse_sysctl(const struct opt *o, const char *value, char **why);
/* "[ip:][host:]container[/proto]" with ranges: adds to ExposedPorts and PortBindings. */
int parse_publish(const char *spec, struct json *exposed, struct json *bindings, struct err *e);
int parse_expose(const char *spec, struct json *exposed, struct err *e);
/* A -v with a source: "./x" and its like are the CLI's to resolve. Heap. */
char *absolute_bind(const char *spec);
/* "host[:container[:rwm]]" */
struct json *parse_device(const char *spec, struct err *e);
/* --security-opt: seccomp=FILE becomes the file's content. Heap. */
char *parse_security_opt(const char *s, struct err *e);
/* --network, --ip, --network-alias...: sets HostConfig.NetworkMode and NetworkingConfig. */
int parse_networks(const struct run_opts *o, struct json *body, struct json *host, struct err *e);
/* Shared by those files. */
bool parse_is_ip(const char *s);
char *parse_csv_field(const char **p);			/* heap; quotes group; *p = NULL after the last */
struct json *parse_sub(struct json *o, const char *key); /* the object at key, made if absent; borrowed */
void parse_add_pair(struct json *o, const char *pair);	/* "k=v" */
