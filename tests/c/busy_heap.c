/* A plugin with threads that are nearly always inside of malloc(3) and its locks. */
#include "plugin.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static volatile int over;
static pthread_t threads[4];

static void *work(void *arg)
{
	void *held[64] = { 0 };

	(void)arg;
	for (unsigned int i = 0; !over; i++) {
		free(held[i % 64]);
		held[i % 64] = malloc(1 + (i * 7919u) % 70000);
		if (held[i % 64])
			memset(held[i % 64], 1, 1);
	}
	for (unsigned int i = 0; i < 64; i++)
		free(held[i]);
	return NULL;
}

static int init(int stage)
{
	(void)stage;
	for (unsigned int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, work, NULL))
			return -1;
	return 0;
}

static void leave(int stage, int ret)
{
	(void)stage;
	(void)ret;
	over = 1;
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

struct plugin_desc CR_PLUGIN_DESC = {
	.name = "busy_heap",
	.init = init,
	.exit = leave,
	.version = 0x200,
	.max_hooks = 10,
};
