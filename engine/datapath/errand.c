#include "errand.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LAST 1 /* the sequence number of the request that is acknowledged */
#define TCP_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)

/* --- steps: each returns 0 or errno --- */

static void copy_name(char name[IFNAMSIZ], const uint8_t *octets, size_t length)
{
    memset(name, 0, IFNAMSIZ);
    memcpy(name, octets, length < IFNAMSIZ ? length : IFNAMSIZ - 1);
}

static int open_tun(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    char path[64] = "";
    if (step->length >= sizeof path || done->fd >= 0)
        return EINVAL;
    memcpy(path, octets, step->length);
    done->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return done->fd < 0 ? errno : 0;
}

static int name_tun(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    /* Make one, never take one that is there: it is someone else's. */
    struct ifreq device = {.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL)};
    copy_name(device.ifr_name, octets, step->length);
    if (step->option)
        device.ifr_flags |= IFF_VNET_HDR;
    if (ioctl(done->fd, TUNSETIFF, &device) != 0)
        return errno;
    if (!step->option || ioctl(done->fd, TUNSETOFFLOAD, (unsigned long)step->option) == 0)
        return 0;
    return ioctl(done->fd, TUNSETOFFLOAD, (unsigned long)TCP_OFFLOADS) == 0 ? 0 : errno; /* before Linux 6.2 */
}

static int set_offload(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    (void)done;
    struct souppp_offload offload;
    if (step->length != sizeof offload)
        return EINVAL;
    memcpy(&offload, octets, sizeof offload);
    struct ethtool_value value = {.cmd = offload.command, .data = offload.value};
    struct ifreq device = {.ifr_data = (void *)&value};
    copy_name(device.ifr_name, (const uint8_t *)offload.name, sizeof offload.name);
    return ioctl(step->fd, SIOCETHTOOL, &device) == 0 ? 0 : errno;
}

static int find(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    struct ifreq device = {0};
    copy_name(device.ifr_name, octets, step->length);
    if (ioctl(step->fd, SIOCGIFINDEX, &device) != 0)
        return errno;
    done->index = (uint32_t)device.ifr_ifindex;
    return 0;
}

static bool is_lacking(int error)
{
    return error == EAFNOSUPPORT || error == ENOENT || error == EOPNOTSUPP;
}

/* What the kernel says in its own words. With NETLINK_CAP_ACK the request isn't repeated behind its header. */
static void note_text(const struct nlmsghdr *answer, struct souppp_done *done)
{
    const uint8_t *end = (const uint8_t *)answer + answer->nlmsg_len;
    const uint8_t *at = (const uint8_t *)NLMSG_DATA(answer) + sizeof(struct nlmsgerr);
    while (at + sizeof(struct nlattr) <= end) {
        struct nlattr attribute;
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.nla_len < sizeof attribute || attribute.nla_len > (size_t)(end - at))
            return;
        if ((attribute.nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG) {
            size_t length = attribute.nla_len - sizeof attribute;
            if (length >= sizeof done->text)
                length = sizeof done->text - 1;
            memset(done->text, 0, sizeof done->text);
            memcpy(done->text, at + sizeof attribute, length);
            return;
        }
        at += NLA_ALIGN(attribute.nla_len);
    }
}

/* The requests begin like `struct ifinfomsg` or `struct tcmsg`, both of which have the index behind four octets. */
static int set_index(uint8_t *octets, size_t length, uint32_t index)
{
    struct nlmsghdr header;
    for (size_t at = 0; at + sizeof header <= length; at += NLMSG_ALIGN(header.nlmsg_len)) {
        memcpy(&header, octets + at, sizeof header);
        if (header.nlmsg_len < sizeof header + sizeof(struct ifinfomsg) || header.nlmsg_len > length - at)
            return EINVAL;
        memcpy(octets + at + sizeof header + offsetof(struct ifinfomsg, ifi_index), &index, sizeof index);
    }
    return 0;
}

static int ask(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    int first = 0;
    if (step->option & ASK_OF_INDEX && (first = set_index(octets, step->length, done->index)) != 0)
        return first;
    _Alignas(struct nlmsghdr) uint8_t answers[1 << 14];
    while (recv(step->fd, answers, sizeof answers, MSG_DONTWAIT) > 0) {
        /* What one that failed has left unread is no answer to this one. */
    }
    if (send(step->fd, octets, step->length, 0) < 0)
        return errno;
    for (;;) {
        ssize_t length = recv(step->fd, answers, sizeof answers, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return errno;
        const struct nlmsghdr *answer = (const struct nlmsghdr *)answers;
        for (; NLMSG_OK(answer, length); answer = NLMSG_NEXT(answer, length)) {
            struct nlmsgerr said;
            if (answer->nlmsg_type != NLMSG_ERROR || answer->nlmsg_len < NLMSG_LENGTH(sizeof said))
                continue;
            memcpy(&said, NLMSG_DATA(answer), sizeof said);
            bool counts = said.error != 0 && !(step->option & ASK_LACKING && is_lacking(-said.error));
            if (counts && first == 0) {
                first = -said.error;
                note_text(answer, done);
            }
            if (said.msg.nlmsg_seq == LAST)
                return first;
        }
    }
}

static int enter(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    (void)done;
    if (step->length <= sizeof(uint32_t))
        return EINVAL;
    union bpf_attr entry = {
        .map_fd = (uint32_t)step->fd,
        .key = (uint64_t)(uintptr_t)octets,
        .value = (uint64_t)(uintptr_t)(octets + sizeof(uint32_t)),
    };
    return syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &entry, sizeof entry) == 0 ? 0 : errno;
}

static int write_setting(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done)
{
    (void)done;
    const char *path = (const char *)octets;
    size_t length = strnlen(path, step->length);
    if (length == step->length)
        return EINVAL;
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        /* What can't be written stays as it is, as where /proc/sys is read-only. */
        ssize_t written = write(file, octets + length + 1, step->length - length - 1);
        (void)written;
        close(file);
    }
    return 0;
}

typedef int carry_out(const struct souppp_step *step, uint8_t *octets, struct souppp_done *done);
static carry_out *const KINDS[] = {
    [STEP_TUN] = open_tun, [STEP_NAME] = name_tun, [STEP_OFFLOAD] = set_offload,
    [STEP_FIND] = find,    [STEP_ASK] = ask,       [STEP_ENTER] = enter,          [STEP_WRITE] = write_setting,
};

/* Changes the octets of steps on the way. */
static void carry_out_all(uint8_t *steps, size_t length, struct souppp_done *done)
{
    *done = (struct souppp_done){.fd = -1};
    for (size_t at = 0; at < length && done->error == 0; done->step += done->error == 0) {
        struct souppp_step step;
        if (length - at < sizeof step) {
            done->error = EINVAL;
            break;
        }
        memcpy(&step, steps + at, sizeof step);
        at += sizeof step;
        done->kind = step.kind;
        if (step.kind >= sizeof KINDS / sizeof *KINDS || step.length > length - at)
            done->error = EINVAL;
        else
            done->error = KINDS[step.kind](&step, steps + at, done);
        at += ((size_t)step.length + 3) & ~(size_t)3;
    }
    if (done->error != 0 && done->fd >= 0) {
        close(done->fd);
        done->fd = -1;
    }
}

bool souppp_carry_out(const uint8_t *steps, size_t length, struct souppp_done *done)
{
    uint8_t *copy = malloc(length ? length : 1);
    if (copy == NULL) {
        *done = (struct souppp_done){.error = ENOMEM, .fd = -1};
        return false;
    }
    memcpy(copy, steps, length);
    carry_out_all(copy, length, done);
    free(copy);
    return done->error == 0;
}

/* --- the thread --- */

enum stage { WAITING, UNDER_WAY, DONE };

struct errand {
    struct errand *next, *previous; /* in a ring of all that nobody has asked for yet, in their order */
    enum stage stage;
    struct souppp_done done;
    size_t length;
    uint8_t steps[];
};

struct errands {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t given, carried_out;
    bool closing;
    struct errand ring; /* its head, which is none itself */
    struct errand *first; /* the first that waits; the head if none does */
};

static void *work(void *given)
{
    struct errands *errands = given;
    pthread_mutex_lock(&errands->lock);
    for (;;) {
        while (!errands->closing && errands->first == &errands->ring)
            pthread_cond_wait(&errands->given, &errands->lock);
        if (errands->closing)
            break;
        struct errand *errand = errands->first;
        errands->first = errand->next;
        errand->stage = UNDER_WAY;
        pthread_mutex_unlock(&errands->lock);
        carry_out_all(errand->steps, errand->length, &errand->done);
        pthread_mutex_lock(&errands->lock);
        errand->stage = DONE;
        pthread_cond_signal(&errands->carried_out);
    }
    pthread_mutex_unlock(&errands->lock);
    return NULL;
}

struct errands *souppp_errands_open(void)
{
    struct errands *errands = calloc(1, sizeof *errands);
    if (errands == NULL)
        return NULL;
    pthread_mutex_init(&errands->lock, NULL);
    pthread_cond_init(&errands->given, NULL);
    pthread_cond_init(&errands->carried_out, NULL);
    errands->ring.next = errands->ring.previous = errands->first = &errands->ring;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&errands->thread, NULL, work, errands);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(errands);
        errno = error;
        return NULL;
    }
    pthread_setname_np(errands->thread, "souppp-errands");
    return errands;
}

/* To be called with the lock held, or when the thread has ended. */
static void forget(struct errands *errands, struct errand *errand)
{
    if (errands->first == errand)
        errands->first = errand->next;
    errand->previous->next = errand->next;
    errand->next->previous = errand->previous;
    free(errand);
}

void souppp_errands_close(struct errands *errands)
{
    pthread_mutex_lock(&errands->lock);
    errands->closing = true;
    pthread_cond_signal(&errands->given);
    pthread_mutex_unlock(&errands->lock);
    pthread_join(errands->thread, NULL);
    while (errands->ring.next != &errands->ring) {
        struct errand *errand = errands->ring.next;
        if (errand->stage == DONE && errand->done.fd >= 0)
            close(errand->done.fd);
        forget(errands, errand);
    }
    pthread_mutex_destroy(&errands->lock);
    pthread_cond_destroy(&errands->given);
    pthread_cond_destroy(&errands->carried_out);
    free(errands);
}

struct errand *souppp_errand_give(struct errands *errands, const uint8_t *steps, size_t length)
{
    struct errand *errand = malloc(sizeof *errand + length);
    if (errand == NULL)
        return NULL;
    *errand = (struct errand){.length = length};
    memcpy(errand->steps, steps, length);
    pthread_mutex_lock(&errands->lock);
    errand->next = &errands->ring;
    errand->previous = errands->ring.previous;
    errand->previous->next = errands->ring.previous = errand;
    if (errands->first == &errands->ring)
        errands->first = errand;
    pthread_cond_signal(&errands->given);
    pthread_mutex_unlock(&errands->lock);
    return errand;
}

void souppp_errand_end(struct errands *errands, struct errand *errand, bool withdrawn, struct souppp_done *done)
{
    pthread_mutex_lock(&errands->lock);
    if (withdrawn && errand->stage == WAITING) {
        errand->done = (struct souppp_done){.error = ECANCELED, .fd = -1};
        errand->stage = DONE;
    }
    while (errand->stage != DONE)
        pthread_cond_wait(&errands->carried_out, &errands->lock);
    *done = errand->done;
    forget(errands, errand);
    pthread_mutex_unlock(&errands->lock);
}

#define FIELD(structure, name) {#structure, #name, offsetof(struct structure, name), sizeof ((struct structure *)0)->name},
#define SIZE(structure) {#structure, "", 0, sizeof(struct structure)},
#define VALUE(list, name) {list, #name, name, 0},
#define OF_STEP(type, name, dimensions) FIELD(souppp_step, name)
#define OF_OFFLOAD(type, name, dimensions) FIELD(souppp_offload, name)
#define OF_DONE(type, name, dimensions) FIELD(souppp_done, name)

const struct souppp_place *souppp_errand_layout(void)
{
    static const struct souppp_place places[] = {
        SIZE(souppp_step) SOUPPP_STEP(OF_STEP)
        SIZE(souppp_offload) SOUPPP_OFFLOAD(OF_OFFLOAD)
        SIZE(souppp_done) SOUPPP_DONE(OF_DONE)
        VALUE("kind", STEP_TUN) VALUE("kind", STEP_NAME) VALUE("kind", STEP_OFFLOAD) VALUE("kind", STEP_FIND)
        VALUE("kind", STEP_ASK) VALUE("kind", STEP_ENTER) VALUE("kind", STEP_WRITE)
        VALUE("option", ASK_OF_INDEX) VALUE("option", ASK_LACKING)
        {NULL, NULL, 0, 0},
    };
    return places;
}
