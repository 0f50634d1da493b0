/*
 * list: what is not inline.
 */
#include "pgstage/base/list.h"

#include "pgstage/base/memory.h"

void **list_objects(const struct list *list, size_t node_offset, size_t *count)
{
    void **objects = memory_resize(NULL, list->length + 1, sizeof(*objects));

    *count = 0;
    list_for_each (node, list)
        objects[(*count)++] = (char *)node - node_offset;
    return objects;
}
