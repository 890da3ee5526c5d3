/* Memory for the interpreter's small objects, in huge pages where the kernel gives any.
 *
 * Some thousand sessions are some hundred megabytes of which a few octets are touched here and a few there. With pages
 * of 4 KiB the processor waits for page tables at each of them. Python asks for 1 MiB at a time, and holds its lock
 * meanwhile: so one thread at a time calls these. */
#pragma once
#include <stddef.h>

#pragma GCC visibility push(default)

/* NULL if there is none. */
void *souppp_arena_get(void *ignored, size_t size);
/* Also what the kernel itself has given, by mmap. */
void souppp_arena_give_back(void *ignored, void *arena, size_t size);

#pragma GCC visibility pop
