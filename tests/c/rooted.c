/* rooted DIR OTHER: sleeps in a mount namespace whose root is DIR, a copy of this program (linked statically) in it, with
 * OTHER, a directory of another file system, bind mounted at /bound. Exits with 77 where that cannot be. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void copy_self(void)
{
	char buf[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY), to = open("rooted", O_WRONLY | O_CREAT, 0755);

	while ((n = read(from, buf, sizeof(buf))) > 0)
		if (write(to, buf, n) != n)
			_exit(77);
	close(from);
	close(to);
}

int main(int argc, char **argv)
{
	int fd;

	if (argc < 3) {
		/* In the new root: nothing of the old one stays open. */
		for (;;)
			pause();
	}
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("root", argv[1], "tmpfs", 0, NULL) || chdir(argv[1]) || mkdir("bound", 0755) || mkdir("old", 0755) ||
	    mount(argv[2], "bound", NULL, MS_BIND, NULL) || mknod("null", S_IFCHR | 0666, makedev(1, 3)))
		return 77;
	copy_self();
	if (syscall(SYS_pivot_root, ".", "old") || chdir("/") || umount2("/old", MNT_DETACH) || rmdir("/old"))
		return 77;
	fd = open("/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	syscall(SYS_close_range, 3, ~0U, 0);
	execl("/rooted", "rooted", NULL);
	return 77;
}
