/* Maps a device, closes it and sleeps: the mapping is all that is left of it. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0 || mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		return 77;
	close(fd);
	for (;;)
		pause();
}
