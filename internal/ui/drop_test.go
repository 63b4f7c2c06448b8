package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A person may read for long what the check has found. If the page is closed, the drop
// ends.
func TestDropEndsWithThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{ctx: t.Context(), sessions: map[string]*dropSession{}}
		var form dropForm
		if err := decode(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"files": [{"path": "talk.mp4", "size": 1}]}`)), &form); err != nil {
			t.Fatal(err)
		}
		session, err := s.openSession(form)
		if err != nil {
			t.Fatal(err)
		}
		keep := func() int {
			w := httptest.NewRecorder()
			handle(s.withSession((*dropSession).keep))(w, httptest.NewRequest(http.MethodPost, "/?id="+session.id, nil))
			return w.Code
		}
		for range 10 {
			time.Sleep(time.Minute)
			if status := keep(); status != http.StatusOK {
				t.Fatalf("while the page is open: HTTP status %d", status)
			}
		}
		time.Sleep(idleAfter + time.Second)
		if status := keep(); status != http.StatusGone || session.ctx.Err() == nil {
			t.Errorf("after the page was closed: HTTP status %d, %v", status, session.ctx.Err())
		}
	})
}
