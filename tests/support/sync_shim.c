/* Preloaded into a process under test: records every fsync and fdatasync in the file named by
 * SYNC_SHIM_LOG ("begun PATH", then "synced PATH" after it succeeded), and holds them back while
 * the file named by SYNC_SHIM_GATE exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void record(const char *stage, int descriptor) {
    char link[64], path[4096], line[4200];
    const char *log = getenv("SYNC_SHIM_LOG");
    if (!log) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    int size = snprintf(line, sizeof line, "%s %s\n", stage, path);
    int file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0 || write(file, line, size) != size) abort();
    close(file);
}

static int watched(const char *name, int descriptor) {
    const char *gate = getenv("SYNC_SHIM_GATE");
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    record("begun", descriptor);
    while (gate && access(gate, F_OK) == 0) usleep(1000);
    int outcome = real(descriptor);
    if (outcome == 0) record("synced", descriptor);
    return outcome;
}

int fsync(int descriptor) { return watched("fsync", descriptor); }
int fdatasync(int descriptor) { return watched("fdatasync", descriptor); }
