/* Copying trees of files. */
#pragma once

/* Copies what is in the directory from into the directory to, and from's own owner, mode and times: links as
 * links, devices as devices, sockets not at all; extended attributes except overlayfs's own. from must be
 * readable, to must not have any of the names. Needs /proc. 0 or -errno. */
int fs_copy_tree(int from, int to);
