/* Another plugin. ANSWER: what its CHECKPOINT_DEVICES answers. CLAIM: it takes every descriptor CRIU cannot dump.
 * CLAIM_VMA: every mapping of a device. CLAIM_UNIX: every UNIX socket whose other end is outside. CLAIM_MOUNT: every mount of
 * a file system that is not the tree's own. CLAIM_LINK: every network link of a kind unknown to CRIU.
 * CONSTANT: its descriptor cannot be written to. */
#include "plugin.h"

void print_on_level(unsigned int level, const char *format, ...);

static int init(int stage)
{
	print_on_level(4, "sibling: init %d\n", stage);
	return 0;
}

static void leave(int stage, int ret)
{
	print_on_level(4, "sibling: exit %d %d\n", stage, ret);
}

static int checkpoint_devices(int pid)
{
	print_on_level(4, "sibling: checkpoint_devices %d\n", pid);
	return ANSWER;
}

#ifdef CLAIM
static int dump_ext_file(int fd, int id)
{
	print_on_level(4, "sibling: dump_ext_file %d %d\n", fd, id);
	return 0;
}
#endif

#ifdef CLAIM_VMA
static int handle_device_vma(int fd, const void *stat)
{
	print_on_level(4, "sibling: handle_device_vma %d %d\n", fd, stat != 0);
	return 0;
}
#endif

#ifdef CLAIM_UNIX
static int dump_unix_sk(int fd, int id)
{
	print_on_level(4, "sibling: dump_unix_sk %d %d\n", fd, id);
	return 0;
}
#endif

#ifdef CLAIM_MOUNT
static int dump_ext_mount(char *mountpoint, int id)
{
	print_on_level(4, "sibling: dump_ext_mount %s %d\n", mountpoint, id);
	return 0;
}
#endif

#ifdef CLAIM_LINK
static int dump_ext_link(int index, int type, char *kind)
{
	print_on_level(4, "sibling: dump_ext_link %d %d %s\n", index, type, kind);
	return 0;
}
#endif

#ifdef CONSTANT
const
#endif
struct plugin_desc CR_PLUGIN_DESC = {
	.name = "sibling",
	.init = init,
	.exit = leave,
	.version = 0x200,
	.max_hooks = 12,
	.hooks = {
#ifdef CLAIM
		[DUMP_EXT_FILE] = (void *)dump_ext_file,
#endif
#ifdef CLAIM_VMA
		[HANDLE_DEVICE_VMA] = (void *)handle_device_vma,
#endif
#ifdef CLAIM_UNIX
		[DUMP_UNIX_SK] = (void *)dump_unix_sk,
#endif
#ifdef CLAIM_MOUNT
		[DUMP_EXT_MOUNT] = (void *)dump_ext_mount,
#endif
#ifdef CLAIM_LINK
		[DUMP_EXT_LINK] = (void *)dump_ext_link,
#endif
		[CHECKPOINT_DEVICES] = (void *)checkpoint_devices,
	},
};
