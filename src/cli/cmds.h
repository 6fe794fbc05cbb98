/* The verbs: one file each (cmd_<verb>.c); registered in main.c. */
#pragma once

#include "cli/cli.h"

int cmd_attach(struct cli *c, int argc, char **argv);
int cmd_context_create(struct cli *c, int argc, char **argv);
int cmd_context_export(struct cli *c, int argc, char **argv);
int cmd_context_import(struct cli *c, int argc, char **argv);
int cmd_context_inspect(struct cli *c, int argc, char **argv);
int cmd_context_ls(struct cli *c, int argc, char **argv);
int cmd_context_rm(struct cli *c, int argc, char **argv);
int cmd_context_show(struct cli *c, int argc, char **argv);
int cmd_context_update(struct cli *c, int argc, char **argv);
int cmd_context_use(struct cli *c, int argc, char **argv);
int cmd_container_prune(struct cli *c, int argc, char **argv);
int cmd_commit(struct cli *c, int argc, char **argv);
int cmd_cp(struct cli *c, int argc, char **argv);
int cmd_create(struct cli *c, int argc, char **argv);
int cmd_diff(struct cli *c, int argc, char **argv);
int cmd_events(struct cli *c, int argc, char **argv);
int cmd_exec(struct cli *c, int argc, char **argv);
int cmd_export(struct cli *c, int argc, char **argv);
int cmd_history(struct cli *c, int argc, char **argv);
int cmd_images(struct cli *c, int argc, char **argv);
int cmd_import(struct cli *c, int argc, char **argv);
int cmd_info(struct cli *c, int argc, char **argv);
int cmd_image_prune(struct cli *c, int argc, char **argv);
int cmd_inspect(struct cli *c, int argc, char **argv);
int cmd_inspect_container(struct cli *c, int argc, char **argv);
int cmd_inspect_image(struct cli *c, int argc, char **argv);
int cmd_inspect_network(struct cli *c, int argc, char **argv);
int cmd_inspect_volume(struct cli *c, int argc, char **argv);
int cmd_kill(struct cli *c, int argc, char **argv);
int cmd_load(struct cli *c, int argc, char **argv);
int cmd_login(struct cli *c, int argc, char **argv);
int cmd_logout(struct cli *c, int argc, char **argv);
int cmd_logs(struct cli *c, int argc, char **argv);
int cmd_network_connect(struct cli *c, int argc, char **argv);
int cmd_network_create(struct cli *c, int argc, char **argv);
int cmd_network_disconnect(struct cli *c, int argc, char **argv);
int cmd_network_ls(struct cli *c, int argc, char **argv);
int cmd_network_prune(struct cli *c, int argc, char **argv);
int cmd_network_rm(struct cli *c, int argc, char **argv);
int cmd_pause(struct cli *c, int argc, char **argv);
int cmd_port(struct cli *c, int argc, char **argv);
int cmd_ps(struct cli *c, int argc, char **argv);
int cmd_pull(struct cli *c, int argc, char **argv);
int cmd_push(struct cli *c, int argc, char **argv);
int cmd_rename(struct cli *c, int argc, char **argv);
int cmd_restart(struct cli *c, int argc, char **argv);
int cmd_rm(struct cli *c, int argc, char **argv);
int cmd_rmi(struct cli *c, int argc, char **argv);
int cmd_run(struct cli *c, int argc, char **argv);
int cmd_save(struct cli *c, int argc, char **argv);
int cmd_start(struct cli *c, int argc, char **argv);
int cmd_stats(struct cli *c, int argc, char **argv);
int cmd_stop(struct cli *c, int argc, char **argv);
int cmd_system_dial_stdio(struct cli *c, int argc, char **argv);
int cmd_search_by_tag(struct cli *c, int argc, char **argv);
int cmd_system_df(struct cli *c, int argc, char **argv);
int cmd_tag(struct cli *c, int argc, char **argv);
int cmd_top(struct cli *c, int argc, char **argv);
int cmd_unpause(struct cli *c, int argc, char **argv);
int cmd_update(struct cli *c, int argc, char **argv);
int cmd_version(struct cli *c, int argc, char **argv);
int cmd_vm_ls(struct cli *c, int argc, char **argv);
int cmd_vm_prepare(struct cli *c, int argc, char **argv);
int cmd_vm_rm(struct cli *c, int argc, char **argv);
int cmd_vm_status(struct cli *c, int argc, char **argv);
int cmd_volume_create(struct cli *c, int argc, char **argv);
int cmd_volume_ls(struct cli *c, int argc, char **argv);
int cmd_system_prune(struct cli *c, int argc, char **argv);
int cmd_volume_prune(struct cli *c, int argc, char **argv);
int cmd_volume_rm(struct cli *c, int argc, char **argv);
int cmd_wait(struct cli *c, int argc, char **argv);

/* cmd_ps.c: the row of a container in lists, with all fields. For `system df -v`. */
struct json *container_row(const struct json *ctr);
/* cmd_pull.c: pulls ref, showing progress on f unless quiet. 0 or -errno and e. */
int pull_image(struct cli *c, const char *ref, const char *platform, bool quiet, FILE *f, struct err *e);
