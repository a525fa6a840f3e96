/* A host with CRIU's names: `opts` has OPTS bytes, `cr_plugin_ctl` has HOOKS hooks. It loads the plugin as cr_lib_load does
 * and prints what the plugin logs. fake_criu PLUGIN PID
 *
 * With NEWEST it has the functions that the newest CRIU shows (but for one, NO_...), and its options hold what that one's
 * would, from byte FROM on moved by MOVED bytes. Without, they hold nothing. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
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

#ifdef NEWEST
#define FUNCTION(name) \
	int name(void) \
	{ \
		return 0; \
	}
#ifndef NO_SHSTK
FUNCTION(kdat_has_shstk)
#endif
#ifndef NO_PIDFD
FUNCTION(pidfd_dump_ops)
#endif
#ifndef NO_INTERRUPT
FUNCTION(set_compel_interrupt_only_mode)
#endif
#ifndef NO_UPROBES
FUNCTION(found_uprobes_vma)
#endif
#ifndef NO_GUARDS
FUNCTION(collect_madv_guards)
#endif
#ifndef NO_OPTIONS
int criu_plugin_get_options(int *argc, char ***argv)
{
	*argc = 0;
	*argv = NULL;
	return 0;
}
#endif
int external_for_each_type(char *type, int (*cb)(void *, void *), void *arg)
{
	(void)type, (void)cb, (void)arg;
	return 0;
}
unsigned int service_sk_ino = -1;
char *rpc_cfg_file;

static void put(int at, const void *what, int size)
{
	at += at >= FROM ? MOVED : 0;
	if (at + size <= (int)sizeof(opts))
		memcpy(opts + at, what, size);
}

static void put_int(int at, int value)
{
	put(at, &value, sizeof(value));
}

/* What init_opts and the command line leave there. */
static void fill(char *plugin, int pid)
{
	static const int lists[] = { 96, 112, 128, 144, 280, 336 };
	struct {
		unsigned int version;
		int pid;
	} header = { 0x20080522, 0 };
	struct {
		unsigned int effective, permitted, inheritable;
	} caps[2];
	char *libdir = strdup(plugin);
	unsigned int i;

	for (i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		int at = lists[i] + (lists[i] >= FROM ? MOVED : 0);
		void *head[2] = { opts + at, opts + at };

		put(lists[i], head, sizeof(head));
	}
	*strrchr(libdir, '/') = 0;
	put(184, &libdir, sizeof(libdir));
	put_int(0, 2);
	put_int(248, 4);
	put_int(328, 1 << 20);
	put_int(376, 10);
	put_int(436, pid);
	put_int(440, 4);
	put_int(512, 1);
	put_int(520, 1);
	put_int(536, geteuid());
	syscall(SYS_capget, &header, caps);
	put_int(540, caps[0].effective);
	put_int(544, caps[1].effective);
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
#ifdef NEWEST
	fill(argv[1], pid.real);
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
