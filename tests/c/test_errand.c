/* Errands are taken one after the other, whoever waits for them or wants them no more; nothing that is opened is lost. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "errand.h"

enum { ROUNDS = 2000, AT_ONCE = 50 };

static uint8_t steps[4096];
static size_t length;

static void begin(void)
{
    length = 0;
}

static void step(uint32_t kind, int fd, const void *octets, uint32_t size)
{
    struct souppp_step step = {.kind = kind, .fd = fd, .length = size};
    memcpy(steps + length, &step, sizeof step);
    memcpy(steps + length + sizeof step, octets, size);
    length += sizeof step + ((size + 3) & ~3u);
}

static void text_step(uint32_t kind, int fd, const char *text)
{
    step(kind, fd, text, (uint32_t)strlen(text));
}

static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void test_steps(const char *file)
{
    struct souppp_done done;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), free_fd = lowest_free();
    char setting[256];
    uint32_t size = (uint32_t)snprintf(setting, sizeof setting, "%s%c%s", file, 0, "word");

    begin();
    step(STEP_WRITE, -1, setting, size);
    step(STEP_WRITE, -1, "/proc/none/such\0" "1", 17); /* that can't be written, and is no failure */
    text_step(STEP_FIND, fd, "lo");
    text_step(STEP_TUN, -1, "/dev/null");
    CHECK(souppp_carry_out(steps, length, &done));
    CHECK(done.error == 0 && done.index == 1 && done.fd == free_fd && done.step == 4);
    close(done.fd);
    char written[8] = "";
    int read_from = open(file, O_RDONLY);
    CHECK(read(read_from, written, sizeof written) == 4 && strcmp(written, "word") == 0);
    close(read_from);

    text_step(STEP_NAME, -1, "soup0"); /* /dev/null is no TUN device: what was opened is closed */
    text_step(STEP_FIND, fd, "lo");
    CHECK(!souppp_carry_out(steps, length, &done));
    CHECK(done.error == ENOTTY && done.kind == STEP_NAME && done.step == 4 && done.fd == -1);
    CHECK(lowest_free() == free_fd);

    begin();
    text_step(STEP_FIND, fd, "none-such");
    CHECK(!souppp_carry_out(steps, length, &done) && done.error == ENODEV && done.step == 0 && done.index == 0);
    close(fd);
}

/* Steps that aren't whole, or claim more than there is, are refused; nothing beyond them is read. */
static void test_nonsense(void)
{
    uint64_t state = 42;
    for (int i = 0; i < ROUNDS; i++) {
        struct souppp_done done;
        size_t size = chance(&state) % 64;
        uint8_t *octets = malloc(size ? size : 1);
        for (size_t j = 0; j < size; j++)
            octets[j] = (uint8_t)chance(&state);
        if (size >= sizeof(struct souppp_step)) {
            struct souppp_step step = {.kind = chance(&state) % 8, .fd = -1, .length = chance(&state) % 64};
            memcpy(octets, &step, sizeof step);
        }
        souppp_carry_out(octets, size, &done);
        CHECK(done.fd == -1 || close(done.fd) == 0);
        free(octets);
    }
}

static void test_thread(void)
{
    struct errands *errands = souppp_errands_open();
    struct errand *given[AT_ONCE];
    struct souppp_done done;
    uint64_t state = 7;
    int free_fd = lowest_free(), opened = 0, withdrawn = 0;

    CHECK(errands != NULL);
    for (int round = 0; round < ROUNDS / 20; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            begin();
            text_step(STEP_TUN, -1, i % 5 ? "/dev/null" : "/proc/none");
            given[i] = souppp_errand_give(errands, steps, length);
            CHECK(given[i] != NULL);
        }
        for (int left = AT_ONCE; left > 0; left--) { /* in any order */
            int i = (int)(chance(&state) % (uint32_t)left), wants = chance(&state) % 3 != 0;
            souppp_errand_end(errands, given[i], !wants, &done);
            CHECK(done.error == 0 || done.error == ENOENT || (!wants && done.error == ECANCELED));
            CHECK((done.error == 0) == (done.fd >= 0));
            if (done.fd >= 0)
                opened += close(done.fd) == 0;
            withdrawn += done.error == ECANCELED;
            given[i] = given[left - 1];
        }
    }
    CHECK(opened > 0 && withdrawn > 0);
    for (int i = 0; i < AT_ONCE; i++) { /* and some that nobody ever asks for */
        begin();
        text_step(STEP_TUN, -1, "/dev/null");
        given[i] = souppp_errand_give(errands, steps, length);
    }
    souppp_errand_end(errands, given[0], false, &done);
    close(done.fd);
    souppp_errands_close(errands);
    CHECK(lowest_free() == free_fd);
}

int main(void)
{
    char file[] = "/tmp/errand-XXXXXX";
    close(mkstemp(file));
    test_steps(file);
    unlink(file);
    test_nonsense();
    test_thread();
    return 0;
}
