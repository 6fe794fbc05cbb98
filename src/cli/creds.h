/* Credentials of registries: ~/.docker/config.json and the helpers that it names. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

/* The registry's name as credentials are kept under: of an image, or of what `login` was given (NULL, "" and
 * docker.io are Docker Hub). Heap. */
char *creds_server_of_image(const char *image);
char *creds_server(const char *address);
/* {"username", "password", "serveraddress"} or with "identitytoken"; NULL if there are none. */
struct json *creds_get(const char *server, struct err *e);
/* The value of X-Registry-Auth for an image. Heap; an empty object's if there are no credentials. */
char *creds_header(const char *image);
int creds_store(const struct json *auth, struct err *e);
/* 1 if there was something to forget. */
int creds_erase(const char *server, struct err *e);
/* Whether creds_store writes the password into the file itself. *ret_path: that file, heap. */
bool creds_plain(const char *server, char **ret_path);
