/*
 * kernel: the system calls on the path of a query, without what glibc does around each of them so
 * that its thread could be cancelled there (which pgstage does with none): two atomic exchanges,
 * together a twentieth of the instructions of a query. Arguments, results and errno are those of
 * the functions of the same name.
 */
#ifndef PGSTAGE_BASE_KERNEL_H
#define PGSTAGE_BASE_KERNEL_H

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sanitizers look at what goes through the functions; some architectures have other calls. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(SYS_recvfrom) &&    \
    defined(SYS_sendto) && defined(SYS_epoll_pwait) && defined(__LP64__)
#define KERNEL_DIRECTLY 1
#else
#define KERNEL_DIRECTLY 0
#endif

static inline ssize_t kernel_recv(int fd, void *buffer, size_t size, int flags)
{
#if KERNEL_DIRECTLY
    return syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
#else
    return recv(fd, buffer, size, flags);
#endif
}

static inline ssize_t kernel_send(int fd, const void *bytes, size_t count, int flags)
{
#if KERNEL_DIRECTLY
    return syscall(SYS_sendto, fd, bytes, count, flags, NULL, 0);
#else
    return send(fd, bytes, count, flags);
#endif
}

static inline int kernel_epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
#if KERNEL_DIRECTLY
    return (int)syscall(SYS_epoll_pwait, fd, events, count, timeout_ms, NULL, 8);
#else
    return epoll_wait(fd, events, count, timeout_ms);
#endif
}

#endif
