/* A host with CRIU's names and none of its layout: `opts` has OPTS bytes, `cr_plugin_ctl` has HOOKS hooks. It loads the
 * plugin as cr_lib_load does and prints what the plugin logs. fake_criu PLUGIN PID */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugin.h"

struct pid {
	void *item;
	int real, state;
};
struct pstree_item {
	void *parent;
	struct list_head children, sibling;
	struct pid *pid;
};
struct plugin {
	struct plugin_desc *d;
	struct list_head list;
	void *handle;
	struct list_head link[HOOKS];
};

char opts[OPTS];
struct {
	struct list_head head, chain[HOOKS];
} cr_plugin_ctl;
struct pstree_item *root_item;
#if HOOKS > 10
int checkpoint_devices(void)
{
	return 0;
}
#endif

void print_on_level(unsigned int level, const char *format, ...)
{
	va_list args;

	printf("%u|", level);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

unsigned int log_get_loglevel(void)
{
	return 4;
}

int main(int argc, char **argv)
{
	struct pid pid = { .real = argc > 2 ? atoi(argv[2]) : 0, .state = 1 };
	struct pstree_item item = { .pid = &pid };
	struct plugin me = { 0 };
	int ret;

	root_item = &item;
	cr_plugin_ctl.head.next = cr_plugin_ctl.head.prev = &me.list;
	me.list.next = me.list.prev = &cr_plugin_ctl.head;
	me.handle = dlopen(argv[1], RTLD_LAZY);
	if (!me.handle) {
		fprintf(stderr, "%s\n", dlerror());
		return 9;
	}
	me.d = dlsym(me.handle, "CR_PLUGIN_DESC");
	printf("hooks %u pause %d checkpoint %d\n", me.d->max_hooks, me.d->hooks[PAUSE_DEVICES] != NULL,
	       me.d->hooks[CHECKPOINT_DEVICES] != NULL);
#ifdef OLD_OPTS
	/* The right size, but nothing in it is where it should be. */
	memset(opts, 0x41, sizeof(opts));
#endif
	ret = me.d->init(0);
	printf("init %d\n", ret);
	if (me.d->max_hooks > CHECKPOINT_DEVICES && !ret) {
		int (*hook)(int) = (int (*)(int))me.d->hooks[CHECKPOINT_DEVICES];

		printf("checkpoint %d\n", hook(pid.real));
		printf("again %d\n", hook(pid.real));
	}
	me.d->exit(0, -1);
	dlclose(me.handle);
	return 0;
}
