/*
 * Names everything in a process tree that CRIU could not checkpoint, by the functions of criu_preflight.h.
 *
 *     cc -o check check.c -ldl
 *     ./check /usr/lib/criu/preflight_plugin.so 4211
 *
 * The plugin is opened with dlopen(): it is no library to link with, and its directory is CRIU's.
 * Ends with 0 if the tree can be dumped, 1 if not, 2 if that is not known.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu_preflight.h"

static int print(const struct criu_preflight_finding *f, void *arg)
{
	unsigned int *count = arg;

	/* A finding that only warns is reported, too. */
	if (f->verdict == CRIU_PREFLIGHT_REFUSE)
		(*count)++;
	printf("%s: %s: pid %d (%s)", f->verdict == CRIU_PREFLIGHT_REFUSE ? "refused" : "warning", f->rule, f->pid, f->comm);
	if (f->fd >= 0)
		printf(" fd %d", f->fd);
	printf(": %s\n", f->text);
	if (f->hint[0])
		printf("    %s\n", f->hint);
	/* Nonzero would stop here. */
	return 0;
}

int main(int argc, char **argv)
{
	int (*check)(pid_t, const struct criu_preflight_options *, criu_preflight_callback, void *);
	struct criu_preflight_options options;
	unsigned int count = 0;
	void *plugin;
	int ret;

	if (argc != 3) {
		fprintf(stderr, "usage: check PLUGIN PID\n");
		return 2;
	}
	plugin = dlopen(argv[1], RTLD_NOW);
	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	/* As dlsym(3) has it: ISO C has no cast from an object pointer to a function pointer. */
	*(void **)&check = dlsym(plugin, "criu_preflight_check");
	if (!check) {
		fprintf(stderr, "%s: no criu_preflight_check\n", argv[1]);
		return 2;
	}

	/* Zero is "not given": only what the dump would be asked for is set. */
	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	options.file_locks = 1;
	options.tcp_established = 1;

	ret = check(atoi(argv[2]), &options, print, &count);
	if (ret < 0) {
		fprintf(stderr, "could not look at process %s: %s\n", argv[2], strerror(-ret));
		return 2;
	}
	printf("%s, %u refused\n", ret ? "cannot be dumped" : "can be dumped", count);
	return ret;
}
