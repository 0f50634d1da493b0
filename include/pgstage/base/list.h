/*
 * list: a circular doubly linked list whose links live in the listed object, with its length.
 *
 * Objects are on at most one list through one `struct list_node`. A node that is on no list has
 * next == NULL (list_node_init, or zeroed memory). The thread that owns the list calls these, or
 * the mutex that guards the list is held.
 */
#ifndef PGSTAGE_BASE_LIST_H
#define PGSTAGE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next, *prev;
};

struct list {
    struct list_node head;
    size_t length;
};

#define LIST_INITIALIZER(name)                                                                     \
    {                                                                                              \
        {&(name).head, &(name).head}, 0                                                            \
    }

static inline void list_init(struct list *list)
{
    list->head.next = list->head.prev = &list->head;
    list->length = 0;
}

static inline void list_node_init(struct list_node *node)
{
    node->next = node->prev = NULL;
}

static inline bool list_node_is_listed(const struct list_node *node)
{
    return node->next != NULL;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->length == 0;
}

static inline void list_insert_between(struct list *list, struct list_node *node,
                                       struct list_node *prev, struct list_node *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
    list->length++;
}

static inline void list_push_front(struct list *list, struct list_node *node)
{
    list_insert_between(list, node, &list->head, list->head.next);
}

static inline void list_push_back(struct list *list, struct list_node *node)
{
    list_insert_between(list, node, list->head.prev, &list->head);
}

static inline void list_remove(struct list *list, struct list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_node_init(node);
    list->length--;
}

/* The first node, or NULL. */
static inline struct list_node *list_first(const struct list *list)
{
    return list->length ? list->head.next : NULL;
}

/* The last node, or NULL. */
static inline struct list_node *list_last(const struct list *list)
{
    return list->length ? list->head.prev : NULL;
}

/* Takes the first node off, or NULL. */
static inline struct list_node *list_pop_front(struct list *list)
{
    struct list_node *node = list_first(list);
    if (node)
        list_remove(list, node);
    return node;
}

/* The objects of now, in memory that the caller frees: for a walk during which any of them may leave
 * the list. `node_offset`: where in each its node is (offsetof). */
void **list_objects(const struct list *list, size_t node_offset, size_t *count)
    __attribute__((warn_unused_result));

/* The object of type `type` that holds `node` as its member `member`. */
#define list_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

/* Walks the nodes; the body must not change the list. */
#define list_for_each(node, list)                                                                  \
    for (struct list_node *node = (list)->head.next; node != &(list)->head; node = node->next)

/* Walks the nodes; the body may remove `node` (and no other). */
#define list_for_each_safe(node, list)                                                             \
    for (struct list_node *node = (list)->head.next, *node##_next = node->next;                    \
         node != &(list)->head; node = node##_next, node##_next = node->next)

#endif
