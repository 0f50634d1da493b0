/*
 * file: reading configuration files, user lists and password files whole.
 *
 * A path may point at anything: only regular files and /dev/null are read, so that no reload waits
 * for somebody to write into a pipe, unless the caller may wait (`pgstage --check /dev/stdin`). The
 * length is then only known at the end, and bounded. Runs on the thread that loads.
 */
#include "pgstage/conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"

#define STEP_BYTES ((size_t)65536)

static bool read_all(int fd, size_t max_bytes, struct buffer *bytes)
{
    for (;;) {
        ssize_t got = read(fd, buffer_reserve(bytes, STEP_BYTES), STEP_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        bytes->length += (size_t)got;
        if (bytes->length > max_bytes) {
            errno = EFBIG;
            return false;
        }
    }
}

/* Linux's numbers of /dev/null, which people name where a file must be named. */
static bool is_null_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == makedev(1, 3);
}

bool file_is_plain(const struct stat *status)
{
    return S_ISREG(status->st_mode) || is_null_device(status);
}

static const char *refusal(int fd, struct stat *status, bool waits)
{
    if (fd < 0) /* a socket cannot even be opened */
        return errno == ENXIO ? FILE_NOT_PLAIN : strerror(errno);
    if (fstat(fd, status) < 0)
        return strerror(errno);
    /* Of a folder, reading it says what it is. */
    return waits || S_ISDIR(status->st_mode) || file_is_plain(status) ? NULL : FILE_NOT_PLAIN;
}

static char *read_path(const char *path, bool waits, size_t max_bytes, size_t *length,
                       struct file_identity *identity, char *problem, size_t size)
{
    /* Opened without waiting, a pipe whose writer is missing holds nobody up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (waits ? 0 : O_NONBLOCK));
    struct stat status;
    struct buffer bytes = {0};
    const char *reason = refusal(fd, &status, waits);
    if (!reason && !read_all(fd, max_bytes, &bytes))
        reason = strerror(errno);
    if (fd >= 0)
        close(fd);
    if (reason) {
        snprintf(problem, size, "cannot read %.300s: %s", path, reason);
        text_wipe(bytes.data, bytes.length);
        buffer_fini(&bytes);
        return NULL;
    }
    if (identity)
        *identity = (struct file_identity){status.st_dev, status.st_ino};
    *length = bytes.length;
    buffer_put_u8(&bytes, 0);
    return (char *)bytes.data;
}

char *file_read(const char *path, size_t max_bytes, size_t *length, struct file_identity *identity,
                char *problem, size_t size)
{
    return read_path(path, false, max_bytes, length, identity, problem, size);
}

char *file_read_waiting(const char *path, size_t max_bytes, size_t *length,
                        struct file_identity *identity, char *problem, size_t size)
{
    return read_path(path, true, max_bytes, length, identity, problem, size);
}

char *file_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return text_copy(".");
    return slash == path ? text_copy("/") : text_copy_n(path, (size_t)(slash - path));
}

char *file_join(const char *folder, const char *path)
{
    if (path[0] == '/' || strcmp(folder, ".") == 0)
        return text_copy(path);
    return text_print("%s%s%s", folder, strcmp(folder, "/") == 0 ? "" : "/", path);
}
