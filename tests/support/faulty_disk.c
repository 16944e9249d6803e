/*
 * Makes the disk under a daemon's store slow or faulty while it runs; for LD_PRELOAD.
 *
 * $FAULTY_DISK names a file with three numbers: the errno with which writes fail, the errno with
 * which syncs fail (0: they do not), and the milliseconds that a sync takes longer. It is read
 * anew at each call. Only the store's own files (their names hold ".sqlite") are touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { WRITES, SYNCS, MILLISECONDS, NUMBERS };

static void read_faults(int fd, int faults[NUMBERS])
{
    char link[64], name[4096], text[64];
    const char *path = getenv("FAULTY_DISK"), *files = getenv("FAULTY_FILES");
    ssize_t length;
    int file;

    memset(faults, 0, NUMBERS * sizeof *faults);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, name, sizeof name - 1);
    if (path == NULL || length < 0)
        return;
    name[length] = 0;
    if (strstr(name, files == NULL ? ".sqlite" : files) == NULL)
        return;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    length = read(file, text, sizeof text - 1);
    close(file);
    if (length < 0)
        return;
    text[length] = 0;
    sscanf(text, "%d %d %d", &faults[WRITES], &faults[SYNCS], &faults[MILLISECONDS]);
}

static int write_fault(int fd)
{
    int faults[NUMBERS];

    read_faults(fd, faults);
    errno = faults[WRITES];
    return faults[WRITES];
}

static int sync_fault(int fd)
{
    int faults[NUMBERS];
    struct timespec pause;

    read_faults(fd, faults);
    pause.tv_sec = faults[MILLISECONDS] / 1000;
    pause.tv_nsec = faults[MILLISECONDS] % 1000 * 1000000L;
    if (faults[MILLISECONDS])
        nanosleep(&pause, NULL);
    errno = faults[SYNCS];
    return faults[SYNCS];
}

#define REAL(type, name) type real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pwrite_type)(int, const void *, size_t, off_t);
typedef ssize_t (*pwrite64_type)(int, const void *, size_t, off64_t);
typedef ssize_t (*write_type)(int, const void *, size_t);
typedef int (*sync_type)(int);

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite_type, "pwrite");
    return write_fault(fd) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64_type, "pwrite64");
    return write_fault(fd) ? -1 : real(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write_type, "write");
    return write_fault(fd) ? -1 : real(fd, data, size);
}

int fsync(int fd)
{
    REAL(sync_type, "fsync");
    return sync_fault(fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(sync_type, "fdatasync");
    return sync_fault(fd) ? -1 : real(fd);
}
