// Work on several threads at once: OpenMP's, or threads of our own where the compiler has no OpenMP (Apple's clang).
#pragma once

#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#else
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#endif

namespace {

// Both forms call piece(t, n) for t = 0 … n - 1 at the same time, n <= threads, and return when all calls have ended.
#ifdef _OPENMP
template <class Piece> inline void on_threads(int64_t threads, const Piece& piece) {
#pragma omp parallel num_threads(threads)
    piece((int64_t)omp_get_thread_num(), (int64_t)omp_get_num_threads());
}
#else
// Threads that sleep between calls. To start new ones for each call would take longer than a small product.
class Crew {
    using Work = void (*)(const void*, int64_t, int64_t);
    std::mutex one_call, lock;
    std::condition_variable start, ended;
    Work work = nullptr;
    const void* piece = nullptr;
    int64_t n = 0, left = 0, calls = 0, members = 0;

    void serve(int64_t t, int64_t seen) {
        std::unique_lock<std::mutex> held(lock);
        for (;;) {
            start.wait(held, [&] { return calls != seen; });
            seen = calls;
            if (t >= n) continue;
            held.unlock();
            work(piece, t, n);
            held.lock();
            if (!--left) ended.notify_one();
        }
    }

public:
    void run(int64_t threads, Work what, const void* on) {
        std::lock_guard<std::mutex> alone(one_call);
        try {
            for (; members < threads - 1; members++) std::thread(&Crew::serve, this, members + 1, calls).detach();
        } catch (const std::system_error&) {  // no more threads: those that run do all
        }
        std::unique_lock<std::mutex> held(lock);
        work = what, piece = on, n = threads < members + 1 ? threads : members + 1, left = n - 1, calls++;
        held.unlock();
        if (n > 1) start.notify_all();
        what(on, 0, n);
        held.lock();
        ended.wait(held, [&] { return !left; });
    }
};

// It is never destroyed, because its threads use it to the end. After a fork the child has none of them: a new crew.
Crew* crew = (pthread_atfork(nullptr, nullptr, [] { crew = new Crew; }), new Crew);

template <class Piece> inline void on_threads(int64_t threads, const Piece& piece) {
    crew->run(threads, [](const void* on, int64_t t, int64_t n) { (*(const Piece*)on)(t, n); }, &piece);
}
#endif

}  // namespace
