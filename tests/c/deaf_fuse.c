/* deaf_fuse DIR: a FUSE file system in a mount namespace of its own, seen at /proc/PID/root/DIR, whose server takes every request
 * and answers none but the first (FUSE_INIT): who waits for it cannot even be killed
 * (request_wait_answer(), fs/fuse/dev.c). Writes a line when it is ready. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char request[1 << 18];

int main(int argc, char **argv)
{
	char options[100];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (argc != 2 || fd < 0 || unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return 1;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("deaf", argv[1], "fuse", 0, options) || read(fd, request, sizeof(request)) < 0)
		return 2;

	const struct fuse_in_header *in = (void *)request;
	struct {
		struct fuse_out_header head;
		struct fuse_init_out init;
	} answer = { { sizeof(answer), 0, in->unique }, { .major = 7, .minor = 31, .max_write = 4096 } };

	if (in->opcode != FUSE_INIT || write(fd, &answer, sizeof(answer)) < 0)
		return 3;
	puts("ready");
	fflush(stdout);
	while (read(fd, request, sizeof(request)) > 0)
		;
	return 0;
}
