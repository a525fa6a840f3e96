/* What the tests know of CRIU's plugin interface, written down anew: criu/include/criu-plugin.h and plugin.h. */
#ifndef PREFLIGHT_TEST_PLUGIN_H
#define PREFLIGHT_TEST_PLUGIN_H

struct plugin_desc {
	const char *name;
	int (*init)(int stage);
	void (*exit)(int stage, int ret);
	unsigned int version;
	unsigned int max_hooks;
	void *hooks[12];
};

enum {
	DUMP_UNIX_SK = 0,
	DUMP_EXT_FILE = 2,
	DUMP_EXT_MOUNT = 4,
	DUMP_EXT_LINK = 6,
	HANDLE_DEVICE_VMA = 7,
	PAUSE_DEVICES = 10,
	CHECKPOINT_DEVICES = 11,
};

struct list_head {
	struct list_head *prev, *next;
};

#endif
