/* Chain ids: what a stack of layers is called. */
#pragma once

/* ChainID(n) = sha256(ChainID(n-1) + " " + DiffID(n)); the first layer's is its diff id (OCI image spec,
 * config): parent NULL. Heap. */
char *chain_id(const char *parent, const char *diff_id);
