/* Decimal text to the nearest double, without locale, table of powers of five or allocation. */
#ifndef FASTOPT_DECIMAL_H
#define FASTOPT_DECIMAL_H

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

/* (x + a fraction, if `more`) * 2^e, rounded to nearest, ties to even; x >= 2^64 or exact, and the
   result normal. */
static inline double fo_round128(fo_u128 x, int more, int e) {
    const uint64_t high = (uint64_t)(x >> 64);
    const int bits = high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)x);
    if (bits > 53) {
        const int drop = bits - 53;
        const fo_u128 half = (fo_u128)1 << (drop - 1), rest = x & (2 * half - 1);
        x >>= drop;
        e += drop;
        x += rest > half || (rest == half && (more || (x & 1)));
    }
    const uint64_t scale_bits = (uint64_t)(e + 1023) << 52;
    double scale;
    memcpy(&scale, &scale_bits, 8);
    return (double)(uint64_t)x * scale;
}

/* m * 10^e for 0 < m and |e| <= 27, where 5^|e| fits a word: one exact product or division. */
static inline double fo_decimal128(uint64_t m, int e) {
    uint64_t five = 1;
    for (int k = e < 0 ? -e : e; k > 0; k--) five *= 5;
    if (e >= 0) return fo_round128((fo_u128)m * five, 0, e);
    const int shift = __builtin_clzll(m);
    const fo_u128 dividend = (fo_u128)(m << shift) << 64, quotient = dividend / five;
    return fo_round128(quotient, quotient * five != dividend, e - shift - 64);
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
    else if (m <= UINT64_C(1) << 53 && -22 <= e && e <= 22) /* two exact numbers, one rounding */
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
