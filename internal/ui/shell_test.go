package ui

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// testShell returns a shell and the shell's cookie. The handler behind the shell reads the
// body and responds "reached".
func testShell(t *testing.T) (*shell, *http.Cookie) {
	t.Helper()
	s := newShell(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40123}, "https://s3.us-east-1.amazonaws.com/bucket/",
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = io.WriteString(w, "reached "+r.URL.Path)
		}))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, request("GET", s.url(), nil, nil))
	cookies := w.Result().Cookies()
	if w.Code != http.StatusOK || len(cookies) != 1 {
		t.Fatalf("the exchange of the token for the cookie: HTTP status %d and %d cookies, want 200 and one", w.Code, len(cookies))
	}
	return s, cookies[0]
}

func request(method, address string, body io.Reader, headers map[string]string) *http.Request {
	r := httptest.NewRequest(method, address, body)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	r.Host = cmp.Or(headers["Host"], r.Host)
	return r
}

// The handler behind the shell responds "reached" only to the page's own requests.
func TestAttacksOnTheShell(t *testing.T) {
	s, cookie := testShell(t)
	own := s.origin()
	const jsonType, form = "application/json", "application/x-www-form-urlencoded"
	tests := []struct {
		name    string
		method  string
		path    string // below the page's path; one that begins with // is absolute
		body    string
		headers map[string]string
		cookie  string // "" sends the right cookie, "none" sends no cookie, and any other text is the value to send
		want    int
	}{
		{name: "a read of the page", method: "GET", want: 200},
		{name: "a change by the page", method: "POST", headers: map[string]string{"Origin": own, "Content-Type": jsonType}, want: 200},
		{name: "a change whose content type has parameters", method: "POST", headers: map[string]string{"Origin": own, "Content-Type": "application/json; charset=utf-8"}, want: 200},
		{name: "a foreign host (DNS rebinding)", method: "GET", headers: map[string]string{"Host": "evil.example:40123"}, want: 403},
		{name: "the right host with another port", method: "GET", headers: map[string]string{"Host": "127.0.0.1:40124"}, want: 403},
		{name: "another name of the same machine", method: "GET", headers: map[string]string{"Host": "localhost:40123"}, want: 403},
		{name: "the token with a foreign host", method: "GET", path: "//?token=" + s.token, headers: map[string]string{"Host": "evil.example"}, cookie: "none", want: 403},
		{name: "a change from a foreign origin", method: "POST", headers: map[string]string{"Origin": "http://evil.example", "Content-Type": jsonType}, want: 403},
		{name: "a change from another port of this machine", method: "POST", headers: map[string]string{"Origin": "http://127.0.0.1:1", "Content-Type": jsonType}, want: 403},
		{name: "a change from the origin null", method: "POST", headers: map[string]string{"Origin": "null", "Content-Type": jsonType}, want: 403},
		{name: "a change without an origin", method: "POST", headers: map[string]string{"Content-Type": jsonType}, want: 403},
		{name: "a read from a foreign origin", method: "GET", headers: map[string]string{"Origin": "http://evil.example"}, want: 403},
		{name: "a script tag of another page", method: "GET", headers: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		{name: "a script tag of another port", method: "GET", headers: map[string]string{"Sec-Fetch-Site": "same-site"}, want: 403},
		{name: "a form", method: "POST", body: "name=a", headers: map[string]string{"Origin": own, "Content-Type": form}, want: 415},
		{name: "a form with the content type text/plain", method: "POST", body: "{}", headers: map[string]string{"Origin": own, "Content-Type": "text/plain"}, want: 415},
		{name: "a change without a content type", method: "POST", body: "{}", headers: map[string]string{"Origin": own}, want: 415},
		{name: "a part of a file at another path", method: "POST", body: "{}", headers: map[string]string{"Origin": own, "Content-Type": partType}, want: 415},
		{name: "no cookie", method: "GET", cookie: "none", want: 403},
		{name: "a wrong cookie", method: "GET", cookie: "wrong", want: 403},
		{name: "the token in place of the cookie", method: "GET", cookie: s.token, want: 403},
		{name: "the right cookie at a path that is not below the page's", method: "GET", path: "//api/page", want: 403},
		{name: "no token", method: "GET", path: "//", cookie: "none", want: 403},
		{name: "a wrong token", method: "GET", path: "//?token=wrong", cookie: "none", want: 403},
		{name: "an empty token", method: "GET", path: "//?token=", cookie: "none", want: 403},
		{name: "the token by POST", method: "POST", path: "//?token=" + s.token, headers: map[string]string{"Origin": own, "Content-Type": jsonType}, cookie: "none", want: 403},
		{name: "an oversized body", method: "POST", body: strings.Repeat("x", maxJSON+1), headers: map[string]string{"Origin": own, "Content-Type": jsonType}, want: 413},
		{name: "an oversized part", method: "POST", path: "api/drop/part", body: strings.Repeat("x", maxPart+1), headers: map[string]string{"Origin": own, "Content-Type": partType}, want: 413},
		{name: "a preflight for CORS", method: "OPTIONS", headers: map[string]string{"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}, want: 403},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := s.path + test.path
			if strings.HasPrefix(test.path, "//") {
				path = test.path[1:]
			}
			r := request(test.method, "http://"+s.host+path, strings.NewReader(test.body), test.headers)
			switch test.cookie {
			case "none":
			case "":
				r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
			default:
				r.AddCookie(&http.Cookie{Name: cookie.Name, Value: test.cookie})
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("HTTP status %d, want %d: %s", w.Code, test.want, w.Body)
			}
			if reached := strings.HasPrefix(w.Body.String(), "reached"); reached != (test.want == 200) {
				t.Errorf("the page was reached: %t, want %t", reached, !reached)
			}
			for name, part := range map[string]string{
				"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
				"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
			} {
				if !strings.Contains(w.Header().Get(name), part) {
					t.Errorf("%s: %q, want %q in it", name, w.Header().Get(name), part)
				}
			}
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the response has the header %s, want no CORS header", name)
				}
			}
		})
	}
}

// A client without the cookie loses its connection at once, even if it sends its body slowly.
func TestConnectionsOfRefusedRequests(t *testing.T) {
	s, _ := testShell(t)
	server := httptest.NewServer(s)
	defer server.Close()
	for name, request := range map[string]string{
		"a read":      "GET %sapi/page HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n\r\n",
		"a slow body": "POST %sapi/page HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{",
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, request, s.path, s.host, s.origin())
		if response, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 403 ") {
			t.Errorf("%s: the response is %q, error %v; want HTTP status 403 and no error", name, response, err)
		}
	}
}

// The page after the exchange has no token, and the browser sends the cookie only to the shell.
func TestExchangeOfTheToken(t *testing.T) {
	s, cookie := testShell(t)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode {
		t.Errorf("the cookie is %v, want HttpOnly and SameSite=Strict", cookie)
	}
	if cookie.Path != s.path {
		t.Errorf("the cookie is for the path %q, want %q: otherwise a browser sends the cookie to other servers of this machine too", cookie.Path, s.path)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, request("GET", s.url(), nil, map[string]string{"Sec-Fetch-Site": "cross-site"}))
	if w.Code != http.StatusOK || strings.Contains(w.Body.String(), s.token) || !strings.Contains(w.Body.String(), "0;url="+s.path) {
		t.Errorf("the page after the exchange: HTTP status %d, want 200, a link to the page and no token: %s", w.Code, w.Body)
	}
	for _, secret := range []string{s.token, s.session, strings.Trim(s.path, "/")} {
		if len(secret) < 26 { // base32 of 128 bits
			t.Errorf("%q has fewer than 128 bits", secret)
		}
	}
	other, _ := testShell(t)
	if other.token == s.token || other.session == s.session || other.path == s.path {
		t.Error("two shells have the same secret, want different secrets")
	}
}
