/* Decimal text to the nearest double, whatever the locale, without allocation. */
#ifndef FASTOPT_DECIMAL_H
#define FASTOPT_DECIMAL_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int fo_is_digit(char c) { return (unsigned char)(c - '0') < 10; }

#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* The number whose eight digits are the bytes of x, the first digit lowest. */
static inline uint64_t fo_eight_digits(uint64_t x) {
    x = x * 10 + (x >> 8);
    return ((x & 0x000000ff000000ff) * 0x000f424000000064 +
            ((x >> 16) & 0x000000ff000000ff) * 0x0000271000000001) >>
           32;
}
#endif

/* Appends the digits at p to *m, modulo 2^64, and returns where they end. Some byte that is no
   digit must follow; `limit` is the end of the text that may be touched. Eight bytes at a time,
   because the length of a number is what a processor cannot predict. */
static inline const char *fo_digits(const char *p, const char *limit, uint64_t *m) {
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const uint32_t power[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    while (limit - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        x ^= 0x3030303030303030;
        const uint64_t other = ((x + 0x7676767676767676) | x) & 0x8080808080808080;
        if (other == 0) {
            *m = *m * 100000000 + fo_eight_digits(x);
            p += 8;
            continue;
        }
        const int n = __builtin_ctzll(other) >> 3;
        if (n) *m = *m * power[n] + fo_eight_digits(x << (64 - 8 * n));
        return p + n;
    }
#endif
    (void)limit;
    while (fo_is_digit(*p)) *m = *m * 10 + (uint64_t)(*p++ - '0');
    return p;
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 fo_u128;

/* (x + a fraction, if `more`) * 2^e to nearest; x >= 2^55 or exact, the result normal. The fraction
   goes into the last bit, which is far below the rounding, and the conversion rounds. */
static inline double fo_round64(uint64_t x, int more, int e) {
    const uint64_t bits = (uint64_t)(e + 1024) << 52;
    double scale;
    memcpy(&scale, &bits, 8);
    return (double)(int64_t)(x >> 1 | (x & 1) | (more != 0)) * scale;
}

/* A power of five, shifted until its top bit is set, and floor((2^128 - 1) / that) - 2^64. */
#define FO_SHIFTED(five) (UINT64_C(five) << __builtin_clzll(UINT64_C(five)))
#define FO_FIVE(five)                                                                              \
    { UINT64_C(five), FO_SHIFTED(five), (uint64_t)(~(fo_u128)0 / FO_SHIFTED(five)) }
static const struct {
    uint64_t power, shifted, inverse;
} fo_five[28] = {
    /* clang-format off */
    FO_FIVE(1), FO_FIVE(5), FO_FIVE(25), FO_FIVE(125), FO_FIVE(625), FO_FIVE(3125), FO_FIVE(15625),
    FO_FIVE(78125), FO_FIVE(390625), FO_FIVE(1953125), FO_FIVE(9765625), FO_FIVE(48828125),
    FO_FIVE(244140625), FO_FIVE(1220703125), FO_FIVE(6103515625), FO_FIVE(30517578125),
    FO_FIVE(152587890625), FO_FIVE(762939453125), FO_FIVE(3814697265625), FO_FIVE(19073486328125),
    FO_FIVE(95367431640625), FO_FIVE(476837158203125), FO_FIVE(2384185791015625),
    FO_FIVE(11920928955078125), FO_FIVE(59604644775390625), FO_FIVE(298023223876953125),
    FO_FIVE(1490116119384765625), FO_FIVE(7450580596923828125),
    /* clang-format on */
};

/* m * 10^e for 0 < m and |e| <= 27, where 5^|e| fits a word: an exact product, or a division of
   two words by one with the inverse known beforehand (Moller and Granlund, Improved Division by
   Invariant Integers, 2011, algorithm 4). */
static inline double fo_decimal128(uint64_t m, int e) {
    const int shift = __builtin_clzll(m);
    m <<= shift;
    if (e >= 0) {
        const fo_u128 product = (fo_u128)m * fo_five[e].shifted;
        return fo_round64((uint64_t)(product >> 64), (uint64_t)product != 0,
                          e + 64 - shift - __builtin_clzll(fo_five[e].power));
    }
    const uint64_t d = fo_five[-e].shifted;
    const int carry = m >= d;
    m -= carry ? d : 0;
    const fo_u128 estimate = (fo_u128)fo_five[-e].inverse * m + ((fo_u128)m << 64);
    uint64_t quotient = (uint64_t)(estimate >> 64) + 1, rest = 0 - quotient * d;
    if (rest > (uint64_t)estimate) {
        quotient--;
        rest += d;
    }
    if (rest >= d) {
        quotient++;
        rest -= d;
    }
    /* The bit that is shifted out matters only if the division is exact, and then it is 0. */
    return fo_round64(carry ? UINT64_C(1) << 63 | quotient >> 1 : quotient, rest != 0,
                      e - 64 + carry - shift + __builtin_clzll(fo_five[-e].power));
}
#endif

/* The general case, by strtod: digits [p, end) with at most one point among them, times 10^e.
   Rewritten without the point, so the locale does not matter, and cut to 800 digits, of which 767
   can decide the rounding; a 1 stands for whatever was cut. */
static inline double fo_decimal_slow(const char *p, const char *end, int64_t e) {
    enum { KEPT = 800 };
    char text[KEPT + 32];
    int n = 0, more = 0, fraction = 0;
    for (; p < end; p++) {
        if (*p == '.') {
            fraction = 1;
            continue;
        }
        if (n < KEPT) {
            e -= fraction;
            if (n || *p != '0') text[n++] = *p;
        } else {
            e += !fraction;
            more |= *p != '0';
        }
    }
    if (n == 0 || n + e < -400) return 0.0;
    if (n + e > 400) return HUGE_VAL;
    if (more) {
        text[n++] = '1';
        e--;
    }
    snprintf(text + n, 32, "e%d", (int)e);
    return strtod(text, NULL);
}

/* Reads the decimal number at p into *value, correctly rounded, and returns where it ends; NULL if
   there is none. Too large a number gives an infinity. Some byte that is no part of a number must
   follow; `limit` as above. */
static inline const char *fo_decimal(const char *p, const char *limit, double *value) {
    static const double power[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int negative = *p == '-';
    p += negative || *p == '+';
    const char *const first = p;
    uint64_t m = 0;
    int64_t e = 0, n_digits;
    if (fo_is_digit(*p) && !fo_is_digit(p[1])) /* the usual "1" and "0." */
        m = (uint64_t)(*p++ - '0');
    else
        p = fo_digits(p, limit, &m);
    n_digits = p - first;
    if (*p == '.') {
        const char *const point = ++p;
        p = fo_digits(p, limit, &m);
        e = point - p;
        n_digits -= e;
    }
    if (n_digits == 0) return NULL;
    const char *const last = p;
    int64_t written = 0;
    if (*p == 'e' || *p == 'E') {
        const int minus = *++p == '-';
        p += minus || *p == '+';
        if (!fo_is_digit(*p)) return NULL;
        for (; fo_is_digit(*p); p++)
            if (written < INT64_C(1000000000000000)) written = written * 10 + (*p - '0');
        if (minus) written = -written;
    }
    e += written;
    double v;
    if (n_digits > 19) /* m may have wrapped around */
        v = fo_decimal_slow(first, last, written);
    else if (FLT_EVAL_METHOD == 0 && m <= UINT64_C(1) << 53 && -22 <= e && e <= 22)
        /* two exact numbers, one rounding */
        v = e < 0 ? (double)(int64_t)m / power[-e] : (double)(int64_t)m * power[e];
    else if (m == 0)
        v = 0.0;
#ifdef __SIZEOF_INT128__
    else if (-27 <= e && e <= 27)
        v = fo_decimal128(m, (int)e);
#endif
    else
        v = fo_decimal_slow(first, last, written);
    *value = negative ? -v : v;
    return p;
}

#endif
