/* list: order, length and the state of nodes that come and go. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pgstage/base/list.h"

struct item {
    int number;
    struct list_node node;
};

static int number_of(const struct list_node *node)
{
    return node ? list_entry(node, struct item, node)->number : -1;
}

Test(list, pops_from_the_front_what_was_pushed_to_the_back)
{
    struct list list = LIST_INITIALIZER(list);
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    for (int i = 0; i < 3; i++)
        list_push_back(&list, &items[i].node);
    cr_assert_eq(list.length, 3);
    cr_assert_eq(number_of(list_pop_front(&list)), 1);
    cr_assert_eq(number_of(list_pop_front(&list)), 2);
    cr_assert_eq(number_of(list_pop_front(&list)), 3);
    cr_assert_null(list_pop_front(&list));
    cr_assert(list_is_empty(&list));
}

Test(list, pushes_to_the_front)
{
    struct list list;
    list_init(&list);
    struct item items[2] = {{.number = 1}, {.number = 2}};
    list_push_front(&list, &items[0].node);
    list_push_front(&list, &items[1].node);
    cr_assert_eq(number_of(list_first(&list)), 2);
    cr_assert_eq(number_of(list_last(&list)), 1);
}

Test(list, has_neither_first_nor_last_when_empty)
{
    struct list list = LIST_INITIALIZER(list);
    cr_assert_null(list_first(&list));
    cr_assert_null(list_last(&list));
}

Test(list, removes_from_the_middle)
{
    struct list list = LIST_INITIALIZER(list);
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    for (int i = 0; i < 3; i++)
        list_push_back(&list, &items[i].node);
    list_remove(&list, &items[1].node);
    cr_assert_eq(list.length, 2);
    cr_assert_eq(number_of(list_first(&list)), 1);
    cr_assert_eq(number_of(list_last(&list)), 3);
    cr_assert_eq(items[0].node.next, &items[2].node);
}

Test(list, knows_whether_a_node_is_listed)
{
    struct list list = LIST_INITIALIZER(list);
    struct item item = {0};
    cr_assert_not(list_node_is_listed(&item.node));
    list_push_back(&list, &item.node);
    cr_assert(list_node_is_listed(&item.node));
    list_remove(&list, &item.node);
    cr_assert_not(list_node_is_listed(&item.node));
}

Test(list, walks_in_order)
{
    struct list list = LIST_INITIALIZER(list);
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    for (int i = 0; i < 3; i++)
        list_push_back(&list, &items[i].node);
    int seen = 0;
    list_for_each (node, &list)
        seen = seen * 10 + number_of(node);
    cr_assert_eq(seen, 123);
}

Test(list, can_lose_each_node_while_being_walked)
{
    struct list list = LIST_INITIALIZER(list);
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    for (int i = 0; i < 4; i++)
        list_push_back(&list, &items[i].node);
    int seen = 0;
    list_for_each_safe (node, &list) {
        seen = seen * 10 + number_of(node);
        list_remove(&list, node);
    }
    cr_assert_eq(seen, 1234);
    cr_assert(list_is_empty(&list));
}

Test(list, objects_of_a_moment_stay_as_they_were_while_the_list_changes)
{
    struct list list = LIST_INITIALIZER(list);
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    size_t count;
    void **objects = list_objects(&list, offsetof(struct item, node), &count);

    cr_assert_eq(count, 0);
    free(objects);
    for (int i = 0; i < 3; i++)
        list_push_back(&list, &items[i].node);
    objects = list_objects(&list, offsetof(struct item, node), &count);
    cr_assert_eq(count, 3);
    while (!list_is_empty(&list))
        (void)list_pop_front(&list);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(objects[i], &items[i]);
    free(objects);
}
