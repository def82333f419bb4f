// bench/peers/go/main.go - the scenarios on Go's net/http, standard library only.
//
// The 200 routes are one ServeMux pattern and a map, as http.ServeMux of Go 1.19 scans prefix
// patterns one by one. Middleware is the usual func(http.Handler) http.Handler.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	routeCount  = 200
	idDigitsMax = 15
	bodyBytes   = 1 << 20
)

var (
	text = []byte("Hello, World!")
	big  = []byte(strings.Repeat("x", 1<<20))
)

type key int

const requestIDKey key = 0

// requestIDs hands out ids that are unique across restarts.
type requestIDs struct {
	prefix string
	count  uint64
}

func newRequestIDs() *requestIDs {
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		log.Fatal(err)
	}
	return &requestIDs{prefix: fmt.Sprintf("%08x-", binary.LittleEndian.Uint32(seed[:]))}
}

func (ids *requestIDs) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := ids.prefix + strconv.FormatUint(atomic.AddUint64(&ids.count, 1), 16)
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey, id)))
	})
}

func auth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer bench-token" {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func safeHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

type item struct {
	ID          uint64 `json:"id"`
	Route       string `json:"route"`
	Name        string `json:"name"`
	Description string `json:"description"`
	PriceCents  uint64 `json:"price_cents"`
	Currency    string `json:"currency"`
	InStock     bool   `json:"in_stock"`
	Quantity    uint64 `json:"quantity"`
	Category    string `json:"category"`
	RequestID   string `json:"request_id"`
}

func writeJSON(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

func lastSegment(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

func itemHandler(route string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := lastSegment(r.URL.Path)
		id, err := strconv.ParseUint(text, 10, 63)
		if err != nil || len(text) > idDigitsMax {
			http.NotFound(w, r)
			return
		}
		writeJSON(w, item{
			ID:          id,
			Route:       route,
			Name:        "Item " + text,
			Description: "One of the things this shop sells",
			PriceCents:  id*100 + 99,
			Currency:    "EUR",
			InStock:     id%2 == 0,
			Quantity:    id % 100,
			Category:    "tools",
			RequestID:   r.Context().Value(requestIDKey).(string),
		})
	})
}

// api routes /api/rN/ID by a map over rN.
func api() http.Handler {
	ids := newRequestIDs()
	routes := make(map[string]http.Handler, routeCount)
	for i := 0; i < routeCount; i++ {
		route := "r" + strconv.Itoa(i)
		routes[route] = ids.middleware(auth(safeHeaders(itemHandler(route))))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest := r.URL.Path[len("/api/"):]
		slash := strings.IndexByte(rest, '/')
		if slash < 0 || strings.IndexByte(rest[slash+1:], '/') >= 0 || routes[rest[:slash]] == nil {
			http.NotFound(w, r)
			return
		}
		routes[rest[:slash]].ServeHTTP(w, r)
	})
}

type order struct {
	Title     string   `json:"title"`
	Reference string   `json:"reference"`
	Express   bool     `json:"express"`
	Discount  *float64 `json:"discount"`
	Customer  struct {
		Name   string `json:"name"`
		Email  string `json:"email"`
		Street string `json:"street"`
		City   string `json:"city"`
		VIP    bool   `json:"vip"`
	} `json:"customer"`
	Items []struct {
		SKU      string  `json:"sku"`
		Name     string  `json:"name"`
		Quantity int64   `json:"quantity"`
		Price    float64 `json:"price"`
	} `json:"items"`
	Note string `json:"note"`
}

func (o *order) valid() bool {
	if len(o.Title) < 1 || len(o.Title) > 200 || !strings.Contains(o.Customer.Email, "@") ||
		len(o.Items) < 1 || len(o.Items) > 100 {
		return false
	}
	for i := range o.Items {
		if o.Items[i].SKU == "" || o.Items[i].Quantity < 1 || o.Items[i].Price < 0 {
			return false
		}
	}
	return true
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytes))
	var o order
	if err != nil || json.Unmarshal(body, &o) != nil {
		http.Error(w, "malformed JSON", http.StatusBadRequest)
		return
	}
	if !o.valid() {
		http.Error(w, "not an order", http.StatusUnprocessableEntity)
		return
	}
	writeJSON(w, &o)
}

func root(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write(text)
}

// accessLog writes a line per request, buffered, at most a second late.
type accessLog struct {
	mu  sync.Mutex
	out *bufio.Writer
}

type statusWriter struct {
	http.ResponseWriter
	status, bytes int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return w.ResponseWriter.Write(b)
}

func newAccessLog(path string) *accessLog {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	l := &accessLog{out: bufio.NewWriterSize(file, 64<<10)}
	go func() {
		for range time.Tick(time.Second) {
			l.mu.Lock()
			l.out.Flush()
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *accessLog) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		begin := time.Now()
		next.ServeHTTP(sw, r)
		l.mu.Lock()
		fmt.Fprintf(l.out, "%s - - [%s] \"%s %s %s\" %d %d %d\n", r.RemoteAddr,
			begin.Format("02/Jan/2006:15:04:05 -0700"), r.Method, r.RequestURI, r.Proto,
			sw.status, sw.bytes, time.Since(begin).Microseconds())
		l.mu.Unlock()
	})
}

func main() {
	port := flag.Int("port", 0, "port on 127.0.0.1")
	logPath := flag.String("access-log", "", "file; none when empty")
	flag.Parse()

	mux := http.NewServeMux()
	mux.HandleFunc("/", root)
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(big)))
		w.Write(big)
	})
	mux.HandleFunc("/echo", echo)
	mux.Handle("/api/", api())

	var handler http.Handler = mux
	if *logPath != "" {
		handler = newAccessLog(*logPath).middleware(mux)
	}
	log.Fatal(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", *port), handler))
}
