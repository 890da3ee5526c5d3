#include "duct.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif

/* Memory that keeps its size, whoever has it: where it ended too early a look at it would be the end of us. */
static int sealed_memory(size_t size)
{
    int fd = memfd_create("souppp-duct", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("souppp-duct", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

struct duct *duct_open(uint32_t size, int given[DUCT_GIVEN])
{
    struct duct *duct = malloc(sizeof *duct);
    size_t whole = DUCT_START + 2 * (size_t)size;
    int memory = sealed_memory(whole), bell[2] = {-1, -1};
    void *mapped = memory < 0 ? MAP_FAILED : mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

    if (duct && mapped != MAP_FAILED && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bell)) {
        duct_begin(duct, mapped, size, bell[0]);
        given[0] = memory;
        given[1] = bell[1];
        return duct;
    }
    if (mapped != MAP_FAILED)
        munmap(mapped, whole);
    if (memory >= 0)
        close(memory);
    free(duct);
    return NULL;
}

void duct_close(struct duct *duct)
{
    if (!duct)
        return;
    munmap(duct->out, DUCT_START + 2 * (size_t)duct->size);
    close(duct->bell);
    free(duct);
}
