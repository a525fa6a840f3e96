/* A program without CRIU: opens the plugin, looks at its descriptor, and uses the functions of the header.
 * outside PLUGIN PID [RELEASE] */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "criu_preflight.h"
#include "plugin.h"

#define CHECK(what)                                                     \
	do {                                                            \
		if (!(what)) {                                          \
			fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
			exit(9);                                        \
		}                                                       \
	} while (0)

typedef int check_fn(pid_t, const struct criu_preflight_options *, criu_preflight_callback, void *);
typedef const char *version_fn(void);

static int found(const struct criu_preflight_finding *f, void *arg)
{
	int *count = (int *)arg;

	CHECK(f->size == sizeof(*f));
	++*count;
	printf("%d %s pid %d fd %d comm %s text %s\n", f->verdict, f->rule, (int)f->pid, f->fd, f->comm, f->text);
	printf("hint %s\njson %s\n", f->hint, f->json);
	return 0;
}

static int only_one(const struct criu_preflight_finding *f, void *arg)
{
	(void)f;
	++*(int *)arg;
	return 1;
}

int main(int argc, char **argv)
{
	struct criu_preflight_options o;
	struct {
		struct criu_preflight_options o;
		char later;
	} grown;
	struct plugin_desc *d;
	check_fn *check;
	version_fn *version;
	void *h;
	pid_t pid;
	int count = 0, ret;

	CHECK(argc >= 3);
	h = dlopen(argv[1], RTLD_LAZY);
	if (!h) {
		fprintf(stderr, "%s\n", dlerror());
		return 9;
	}
	d = (struct plugin_desc *)dlsym(h, "CR_PLUGIN_DESC");
	CHECK(d && !strcmp(d->name, "preflight") && d->version == 0x200);
	/* No CRIU: the smallest number of any release, and none of the hooks that came later. */
	CHECK(d->max_hooks == 10 && !d->hooks[PAUSE_DEVICES] && !d->hooks[CHECKPOINT_DEVICES]);
	CHECK(d->init(0) == 0);
	CHECK(d->init(1) == 0);
	CHECK(d->init(2) == 0);
	d->exit(0, 0);

	*(void **)&version = dlsym(h, "criu_preflight_version");
	*(void **)&check = dlsym(h, "criu_preflight_check");
	CHECK(version && check && strlen(version()) >= 5);

	pid = atoi(argv[2]);
	CHECK(check(0x3ffffff, NULL, NULL, NULL) == -ESRCH);
	CHECK(check(-1, NULL, NULL, NULL) == -ESRCH);
	memset(&o, 0, sizeof(o));
	CHECK(check(pid, &o, NULL, NULL) == -EINVAL);
	o.size = sizeof(o);
	o.release = "5.0";
	CHECK(check(pid, &o, NULL, NULL) == -EINVAL);
	memset(&grown, 0, sizeof(grown));
	grown.o.size = sizeof(grown.o) + 1;
	grown.later = 1;
	CHECK(check(pid, &grown.o, NULL, NULL) == -E2BIG);

	o.release = argc > 3 ? argv[3] : NULL;
	ret = check(pid, &o, found, &count);
	CHECK(check(pid, &o, NULL, NULL) == ret);
	if (count > 1) {
		count = 0;
		CHECK(check(pid, &o, only_one, &count) == ret && count == 1);
	}
	printf("answer %d\n", ret);
	dlclose(h);
	return 0;
}
