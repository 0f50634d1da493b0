/*
 * file: reading configuration files, user lists and password files whole.
 *
 * Pipes are read too (`pgstage --check /dev/stdin`), so the length is only known at the end; it is
 * bounded, since a path may point at anything. Runs on the thread that loads.
 */
#include "pgstage/conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

char *file_read(const char *path, size_t max_bytes, size_t *length, struct file_identity *identity,
                char *problem, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat status;
    struct buffer bytes = {0};
    if (fd < 0 || fstat(fd, &status) < 0 || !read_all(fd, max_bytes, &bytes)) {
        snprintf(problem, size, "cannot read %.300s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        text_wipe(bytes.data, bytes.length);
        buffer_fini(&bytes);
        return NULL;
    }
    close(fd);
    if (identity)
        *identity = (struct file_identity){status.st_dev, status.st_ino};
    *length = bytes.length;
    buffer_put_u8(&bytes, 0);
    return (char *)bytes.data;
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
