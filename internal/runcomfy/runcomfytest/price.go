package runcomfytest

// Price is the price of a model, as the API describes it.
type Price struct {
	USD  float64
	Unit string
	Note string
}

// InventedPrice returns an invented price of a model, which is not RunComfy's price. The note
// of the price says so.
func InventedPrice(id string) Price {
	const note = "invented by the fake of RunComfy"
	switch id {
	case "sync/react-1":
		return Price{0.16, "second", note}
	case "sync/sync/lipsync/v2/pro":
		return Price{0.08, "second", note}
	case "community/live-avatar":
		return Price{0.02, "second", note}
	case "happyhorse/happyhorse-1.0/reference-to-video":
		return Price{0.90, "output", note}
	default:
		return Price{0.05, "second", note}
	}
}

// SetBalanceEmpty sets whether the account's balance is used up. If it is, no job is
// accepted.
func (s *Server) SetBalanceEmpty(empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBalance = empty
}

// SetBalance sets the balance of the account in US dollars. SetBalance does not change
// whether jobs are accepted: see SetBalanceEmpty.
func (s *Server) SetBalance(usd float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.balance = &usd
}

func (s *Server) balanceUSD() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	const usual = 12.5
	switch {
	case s.noBalance:
		return 0
	case s.balance != nil:
		return *s.balance
	}
	return usual
}
